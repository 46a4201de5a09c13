"""Validation says what the embeddings are worth, over any number of ranks, and never NaN."""

import json
import math
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader

from rscontrast.errors import InputError
from rscontrast.metrics.embedding import alignment, effective_rank, embedding_std, uniformity
from rscontrast.tasks import FALSE, SimCLR
from rscontrast.tasks.signals import Signals
from tests.sample_world import ROOT, trainer
from tests.tasks.signal_ranks import FEW, MANY, pairs, rank_batches

TINY = {"model": "tu-resnet10t", "in_channels": 4, "hidden_dim": 32, "output_dim": 16}
NAMES = {"embedding_std", "effective_rank", "alignment", "uniformity"}


def said(view1, view2):
    both = torch.cat([view1, view2])
    return {
        "embedding_std": embedding_std(both).item(),
        "effective_rank": effective_rank(both).item(),
        "alignment": alignment(view1, view2).item(),
        "uniformity": uniformity(both).item(),
    }


def test_an_epoch_is_all_of_its_batches():
    view1, view2 = pairs(24)
    signals = Signals()
    for first, second in zip(view1.split(10), view2.split(10), strict=True):
        signals.update(first, second)
    assert signals.compute() == pytest.approx(said(view1, view2))
    signals.reset()
    assert signals.compute() == {}


def test_samples_without_weight_and_without_number_are_left_out():
    view1, view2 = pairs(12)
    weight = torch.ones(12)
    weight[[0, 7]] = 0
    view1[0], view2[3, 2], view1[5, 0] = math.nan, math.inf, -math.inf
    kept = [1, 2, 4, 6, 8, 9, 10, 11]
    signals = Signals()
    signals.update(view1, view2, weight)
    assert signals.compute() == pytest.approx(said(view1[kept], view2[kept]))


def test_nothing_valid_says_nothing():
    view1, view2 = pairs(4)
    signals = Signals()
    nothing = {"false_negative_precision": torch.tensor(math.nan)}
    signals.update(view1, view2, torch.zeros(4), nothing)
    signals.update(view1 * math.nan, view2, None, nothing)
    assert signals.compute() == {}
    signals.update(view1[:1], view2[:1])  # of one sample nothing can be said either
    assert signals.compute() == {}


def test_diagnostics_are_the_mean_of_those_batches_that_have_one():
    signals = Signals()
    for share, precision in ((0.5, math.nan), (0.25, 0.8), (0.0, 0.4)):
        found = {"share": torch.tensor(share), "precision": torch.tensor(precision)}
        signals.update(*pairs(1), None, found)
    found = signals.compute()
    assert (found["share"], found["precision"]) == pytest.approx((0.25, 0.6))


def test_no_more_is_kept_than_was_said():
    view1, view2 = pairs(50)
    signals = Signals(most=13)
    for first, second in zip(view1.split(5), view2.split(5), strict=True):
        signals.update(first, second)
    assert sum(len(first) for first, _ in signals._views) == 13
    assert signals.compute() == pytest.approx(said(view1[:13], view2[:13]))
    with pytest.raises(InputError, match="most: got 1"):
        Signals(most=1)


def test_two_ranks_say_what_one_says(tmp_path):
    command = [sys.executable, "-m", "tests.tasks.signal_ranks", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    each = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert each[0] == each[1]
    for counts in (MANY, FEW):  # of the latter rank 0 has none
        alone = Signals()
        for rank in (0, 1):
            for batch in rank_batches(counts, rank):
                alone.update(*batch)
        assert each[0][counts] == pytest.approx(alone.compute(), rel=1e-5)
        assert set(each[0][counts]) >= NAMES


class Records(list):
    """A list is a dataset to torch."""


def samples(count=8, **more):
    torch.manual_seed(0)
    place = torch.randn(count, 1, 4, 32, 32)
    images = place + 0.3 * torch.randn(count, 2, 4, 32, 32)
    each = zip(images, torch.arange(count) % 2, strict=True)
    return Records({"image": image, "label": label} | more for image, label in each)


def validated(task, data, folder):
    run = trainer(folder, max_epochs=1, limit_val_batches=1.0, num_sanity_val_steps=0)
    run.fit(task, DataLoader(samples(), batch_size=4), DataLoader(data, batch_size=4))
    return {name: value.item() for name, value in run.callback_metrics.items()}


def test_a_validation_logs_the_loss_and_the_signals(tmp_path):
    torch.manual_seed(0)
    task = SimCLR(**TINY)
    found = validated(task, samples(12), tmp_path)
    assert {f"val_{name}" for name in NAMES} | {"val_loss"} <= set(found)
    assert all(math.isfinite(value) for value in found.values())
    task.eval()
    images = torch.stack([sample["image"] for sample in samples(12)])
    with torch.no_grad():
        wanted = said(task(images[:, 0]), task(images[:, 1]))
    assert {name: found[f"val_{name}"] for name in NAMES} == pytest.approx(wanted, rel=1e-4)
    assert not task.signals._views


def test_a_collapsed_encoder_shows(tmp_path):
    task = SimCLR(**TINY)
    for parameter in task.model.parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            parameter.zero_()  # its features are then one number
    found = validated(task, samples(12), tmp_path)
    assert found["val_embedding_std"] < 1e-3
    assert found["val_effective_rank"] == pytest.approx(1, abs=1e-3)


def test_share_and_precision_of_false_negatives_are_logged(tmp_path):
    task = FALSE(**TINY, positive_threshold=-1.0)
    found = validated(task, samples(12), tmp_path)
    assert found["val_false_negative_share"] == 1
    assert 0 <= found["val_false_negative_precision"] <= 1
    none = FALSE(**TINY, positive_threshold=1.1)
    found = validated(none, samples(12), tmp_path)
    assert found["val_false_negative_share"] == 0
    assert "val_false_negative_precision" not in found


def test_an_epoch_without_a_usable_pixel_logs_no_signal(tmp_path):
    empty = torch.zeros(2, 32, 32, dtype=torch.bool)
    found = validated(SimCLR(**TINY), samples(8, valid=empty), tmp_path)
    assert not {f"val_{name}" for name in NAMES} & set(found)
    assert all(math.isfinite(value) for value in found.values())
