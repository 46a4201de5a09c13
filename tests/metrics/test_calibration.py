"""Calibration against literal bins, and temperatures that are known."""

import math

import numpy as np
import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.metrics import (
    BuildingCalibrationError,
    CalibrationError,
    PixelSample,
    fit_temperature,
    reliability_table,
)
from rscontrast.metrics.temperature import nll
from rscontrast.report.reliability import reliability_figure
from tests.oracles import scores as oracle


def field(seed=0, batch=2, size=(20, 18), classes=5):
    """Logits, and labels that are drawn from their softmax at temperature 2.5."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes, *size, generator=generator)
    chances = (logits / 2.5).softmax(1).movedim(1, -1).reshape(-1, classes)
    labels = chances.multinomial(1, generator=generator).view(batch, *size)
    return logits, labels


def pixel_error(probabilities, mask, *rest, **arguments):
    metric = CalibrationError(**arguments)
    metric.update(probabilities, mask, *rest)
    return metric


def test_pixel_error_equals_literal_bins():
    logits, mask = field()
    probabilities = logits.softmax(1)
    sure, best = probabilities.max(1)
    right = (best == mask).flatten().tolist()
    expected = oracle.ece(sure.double().flatten().tolist(), right, 15)
    metric = pixel_error(probabilities, mask)
    assert metric.compute().item() == pytest.approx(expected, abs=1e-9)
    assert expected > 0.1  # logits at 2.5 times their temperature are too sure
    assert reliability_table(sure, best == mask).ece == pytest.approx(expected, abs=1e-9)


def test_adaptive_bins_hold_equal_numbers():
    logits, mask = field(size=(60, 50))
    probabilities = logits.softmax(1)
    metric = pixel_error(probabilities, mask, binning="adaptive", bins=10)
    table = metric.reliability()
    sure, best = probabilities.max(1)
    assert table.lower[0] == 0
    assert table.upper[-1] == 1
    assert np.array_equal(table.lower[1:], table.upper[:-1])
    assert np.allclose(table.count[:-3], mask.numel() / 10, rtol=0.02)
    right = (best == mask).flatten().tolist()
    expected = oracle.adaptive_ece(sure.double().flatten().tolist(), right, 10)
    assert table.ece == pytest.approx(expected, abs=1e-3)


def test_ends_of_bins_belong_below_as_in_the_paper():
    table = reliability_table([0.0, 0.5, 0.75, 1.0], [0, 1, 1, 1], bins=4)
    assert table.count.tolist() == [1, 1, 1, 1]
    assert table.ece == pytest.approx((0 + 0.5 + 0.25 + 0) / 4)


def test_known_error_by_hand():
    probabilities = torch.tensor([0.8, 0.2]).view(1, 2, 1, 1).expand(1, 2, 10, 10)
    mask = torch.zeros(1, 10, 10, dtype=torch.int64)
    mask[0, :5] = 1
    metric = pixel_error(probabilities, mask)
    assert metric.compute().item() == pytest.approx(0.3, abs=1e-6)
    assert "0.500         100" in metric.reliability().table()
    assert metric.reliability().to_dict()["ece"] == pytest.approx(0.3, abs=1e-6)
    assert metric.reliability().to_dict()["accuracy"][0] is None


def test_only_what_is_labelled_and_valid_counts():
    logits, mask = field()
    probabilities = logits.softmax(1)
    valid = torch.rand(2, 2, 20, 18) > 0.3
    hidden = pixel_error(probabilities, mask.where(valid.all(1), 255))
    assert hidden.compute() == pixel_error(probabilities, mask, valid).compute()
    assert hidden.compute() != pixel_error(probabilities, mask).compute()
    built = pixel_error(probabilities, mask, buildings_only=True)
    assert built.compute() == pixel_error(probabilities, mask.where(mask > 0, 255)).compute()
    assert math.isnan(pixel_error(probabilities, torch.full_like(mask, 255)).compute())
    assert math.isnan(pixel_error(probabilities, mask, valid & False, binning="adaptive").compute())


def test_building_error_equals_the_literal_loop():
    logits, _ = field(batch=1, size=(30, 30))
    truth = torch.randint(-5, 5, (1, 30, 30), generator=torch.Generator().manual_seed(1))
    truth, probabilities = truth.clamp(min=0), logits.softmax(1)
    valid = torch.rand(truth.shape, generator=torch.Generator().manual_seed(2)) > 0.3
    metric = BuildingCalibrationError(bins=5)
    metric.update(probabilities, truth, valid)
    sure, right = [], []
    for group in oracle.flood(truth[0].tolist()):
        pixels = [(r, c) for r, c in group if valid[0, r, c]]
        if pixels:
            mean = [sum(probabilities[0, k, r, c].item() for r, c in pixels) for k in range(1, 5)]
            grades = [truth[0, r, c].item() for r, c in pixels]
            true = min(set(grades), key=lambda g: (-grades.count(g), g))
            sure.append(max(mean) / sum(mean))
            right.append(mean.index(max(mean)) + 1 == true)
    assert len(sure) > 50
    assert metric.compute().item() == pytest.approx(oracle.ece(sure, right, 5), abs=1e-6)
    assert metric.reliability().count.sum() == len(sure)


def test_buildings_by_id_and_none():
    probabilities = torch.full((1, 3, 2, 4), 0.1)
    probabilities[:, 2] = 0.8
    truth = torch.tensor([[[1, 1, 2, 2], [1, 1, 2, 2]]])
    metric = BuildingCalibrationError(bins=10)
    metric.update(probabilities, truth, instances=truth * 7)
    assert metric.compute().item() == pytest.approx(8 / 9 - 0.5, abs=1e-6)
    empty = BuildingCalibrationError()
    empty.update(probabilities, truth * 0)
    assert math.isnan(empty.compute())


def test_a_known_temperature_is_found():
    logits, mask = field(size=(120, 120))
    found = fit_temperature(logits, mask)
    assert found == pytest.approx(2.5, rel=0.03)
    assert fit_temperature(logits, mask) == found
    # The least of the very same function, sought by trying.
    tried = torch.linspace(2.2, 2.8, 61)
    pixels, labels = logits.movedim(1, -1).reshape(-1, 5), mask.flatten()
    losses = torch.stack([nll(pixels, labels, t) for t in tried])
    assert abs(tried[losses.argmin()] - found) < 0.011
    before, after = (pixel_error((logits / t).softmax(1), mask).compute() for t in (1, found))
    assert after < 0.1 * before


def test_fitting_is_scale_free_and_starts_anywhere():
    logits, mask = field(size=(60, 60))
    found = fit_temperature(logits, mask)
    for scale in (0.05, 20):
        assert fit_temperature(logits * scale, mask) == pytest.approx(found * scale, rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_a_fit_never_makes_it_worse(seed):
    torch.manual_seed(seed)
    logits = 10 ** torch.empty(1).uniform_(-2, 2) * torch.randn(1, 3, 6, 6)
    for mask in (torch.randint(0, 3, (1, 6, 6)), logits.argmax(1), logits.argmin(1)):
        found = fit_temperature(logits, mask)
        pixels, labels = logits.movedim(1, -1).reshape(-1, 3).double(), mask.flatten()
        assert 0.01 <= found <= 100 + 1e-9
        assert nll(pixels, labels, found) <= nll(pixels, labels)


def test_a_fit_leaves_out_what_is_not_labelled_or_valid():
    logits, mask = field()
    valid = torch.rand(mask.shape) > 0.5
    expected = fit_temperature(logits, mask.where(valid, 255))
    assert fit_temperature(logits, mask, valid=valid) == expected
    with torch.inference_mode():  # as Lightning validates
        assert fit_temperature(logits.clone(), mask.clone(), valid=valid) == expected
    with pytest.raises(InputError, match="no labelled pixel"):
        fit_temperature(logits, torch.full_like(mask, 255))
    with pytest.raises(InputError, match=r"logits: got .NaN"):
        fit_temperature(logits * torch.nan, mask)
    with pytest.raises(InputError, match="mask: got"):
        fit_temperature(logits, mask[:, :3])


def test_a_fit_takes_what_a_model_makes_of_its_logits():
    logits, mask = field(size=(40, 40))
    halves = fit_temperature(logits, mask, probabilities=lambda x: (x / 2).softmax(1))
    assert halves == pytest.approx(fit_temperature(logits, mask) / 2, rel=1e-4)


def test_a_sample_is_even_fixed_and_small():
    sample, again = PixelSample(500, seed=3), PixelSample(500, seed=3)
    for batch in range(10):
        logits = torch.full((1, 2, 20, 20), float(batch))
        for taker in (sample, again):
            taker.add(logits, torch.full((1, 20, 20), batch % 2))
    assert len(sample.mask) == 500
    assert torch.equal(sample.logits, again.logits)
    assert torch.equal(sample.mask, sample.logits[:, 0].long() % 2)
    shares = torch.bincount(sample.logits[:, 0].long(), minlength=10)
    assert shares.min() > 25
    logits, mask = field(size=(120, 120))
    assert fit_temperature(logits, mask, limit=5000) == pytest.approx(2.5, rel=0.1)


def test_the_plot_is_drawn(tmp_path):
    logits, mask = field(size=(60, 60))
    tables = {
        name: pixel_error((logits / t).softmax(1), mask).reliability()
        for name, t in (("before", 1), ("after", 2.5))
    }
    tables["nothing"] = reliability_table([], [])
    path = tmp_path / "plot.png"
    reliability_figure(tables, path, title="Reliability of the pixels")
    assert path.read_bytes()[1:4] == b"PNG"
    with pytest.raises(InputError, match="tables"):
        reliability_figure({}, path, title="")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CalibrationError(0), "bins: got 0"),
        (lambda: CalibrationError(binning="equal"), "binning: got 'equal'"),
        (lambda: CalibrationError(1 << 20, "adaptive"), "bins"),
        (lambda: reliability_table([1.2], [1]), "confidence"),
        (lambda: reliability_table([0.2], [1, 0]), "right"),
        (lambda: pixel_error(*field()), "probabilities: got .values"),
        (lambda: pixel_error(field()[1], field()[1]), "probabilities: got .torch.int64"),
        (lambda: PixelSample(0), "limit: got 0"),
    ],
)
def test_bad_input_says_what_came(call, message):
    with pytest.raises(InputError, match=message):
        call()
