"""Streaming statistics beside numpy's over all pixels at once."""

import tracemalloc

import numpy as np
import pytest
import torch

from rscontrast.datamodules.statistics import KEPT, BandStatistics, band_statistics
from rscontrast.errors import InputError


def samples(count, seed=0, bands=3, size=16, offset=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shift = rng.normal(size=(1, bands, 1, 1)) * scale
        image = rng.normal(size=(2, bands, size, size)) * scale + shift + offset
        valid = rng.random((2, size, size)) < rng.random()
        yield {
            "image": torch.from_numpy(image.astype(np.float32)),
            "valid": torch.from_numpy(valid),
        }


def pixels(parts):
    """[C, N] of all valid pixels, by numpy alone."""
    return np.concatenate(
        [
            date[:, seen]
            for part in parts
            for date, seen in zip(part["image"].numpy(), part["valid"].numpy(), strict=True)
        ],
        axis=1,
    ).astype(np.float64)


@pytest.mark.parametrize(
    ("offset", "scale"), [(0, 1), (1e4, 1), (3e6, 1), (-0.2, 1e-5), (1e-30, 1e-30)]
)
def test_mean_and_std_are_numpys(offset, scale):
    parts = list(samples(40, offset=offset, scale=scale))
    found, every = band_statistics(parts), pixels(parts)
    np.testing.assert_allclose(found.mean, every.mean(axis=1), rtol=1e-11)
    np.testing.assert_allclose(found.std, every.std(axis=1), rtol=1e-8)
    assert found.pixels == every.shape[1]
    assert found.patches == 40


def test_percentiles_are_exact_up_to_the_size_of_the_sample():
    parts = list(samples(40))
    found, every = band_statistics(parts), pixels(parts)
    assert every.shape[1] < KEPT
    for percent in (0, 2, 50, 98, 100):
        expected = np.percentile(every, percent, axis=1)
        np.testing.assert_allclose(found.percentile(percent), expected, rtol=1e-12)


def ranks(found, every, percents=(2, 25, 50, 98)):
    """Percent of all pixels below each estimate, less the percent asked for; in deviations."""
    for percent in percents:
        for band, value in zip(every, found.percentile(percent), strict=True):
            error = (band < value).mean() * 100 - percent
            yield error / (100 * np.sqrt(percent / 100 * (1 - percent / 100) / found.kept))


def test_percentiles_come_from_a_uniform_sample():
    """Patches differ in brightness: a sample of the first or of the last ones would show."""
    parts = [part | {"image": part["image"] + n / 100} for n, part in enumerate(samples(300))]
    found = BandStatistics(kept=2000, seed=3)
    for part in parts:
        found.add(part)
    errors = list(ranks(found, pixels(parts)))
    assert max(map(abs, errors)) < 4
    assert len(found._ranks) == 2000


@pytest.mark.parametrize("cut", [0, 1, 150, 300])
def test_merged_parts_are_the_whole(cut):
    parts = list(samples(300, offset=1e5))
    one, two = (BandStatistics(kept=2000, seed=seed) for seed in (1, 2))
    for part in parts[:cut]:
        one.add(part)
    for part in parts[cut:]:
        two.add(part)
    one.merge(two)
    every = pixels(parts)
    np.testing.assert_allclose(one.mean, every.mean(axis=1), rtol=1e-11)
    np.testing.assert_allclose(one.std, every.std(axis=1), rtol=1e-8)
    assert (one.pixels, one.patches) == (every.shape[1], 300)
    assert max(map(abs, ranks(one, every))) < 4


def test_memory_does_not_grow():
    found = BandStatistics(kept=1000)
    stream = samples(2000, size=8)
    for _ in range(200):
        found.add(next(stream))
    tracemalloc.start()
    first = tracemalloc.get_traced_memory()[0]
    for sample in stream:
        found.add(sample)
    del sample
    grown = tracemalloc.get_traced_memory()[0] - first
    tracemalloc.stop()
    assert grown < 60_000  # all pixels would be 1.3 MB and more
    assert found.patches == 2000


def test_a_seed_repeats_the_estimate():
    one, two, three = (BandStatistics(kept=500, seed=seed) for seed in (0, 0, 1))
    for found in (one, two, three):
        for sample in samples(30):
            found.add(sample)
    assert one.to_dict() == two.to_dict()
    assert one.to_dict()["percentiles"] != three.to_dict()["percentiles"]
    assert sorted(one.to_dict()) == ["mean", "patches", "percentiles", "pixels", "seed", "std"]
    assert sorted(one.to_dict()["percentiles"]) == ["2", "50", "98"]


def test_patches_without_a_valid_pixel_count_as_patches():
    empty = next(samples(1))
    empty["valid"][:] = False
    some = list(samples(3))
    assert band_statistics([empty, *some]).patches == 4
    assert np.array_equal(band_statistics([*some, empty]).mean, band_statistics(some).mean)


def constant(sample):
    sample["image"][:, 1] = 7
    return [sample]


def broken(sample):
    sample["image"][:, 1] = np.nan
    sample["valid"][:] = True
    return [sample]


def unseen(sample):
    sample["valid"][:] = False
    return [sample]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (constant, r"bands: got 'std .*bands that vary"),
        (broken, "image: got 'NaN or infinity'"),
        (unseen, "pairs: got 'no valid pixel'"),
        (lambda _: [], "pairs: got 'no valid pixel'"),
        (lambda one: [one, *samples(1, bands=2)], "image: got '2 bands'; allowed: 3 bands"),
    ],
)
def test_what_cannot_be_normalised_by_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        band_statistics(change(next(samples(1))))


@pytest.mark.parametrize(
    ("more", "words"),
    [({"percentiles": ()}, "percentiles"), ({"percentiles": (101,)}, "101"), ({"kept": 0}, "kept")],
)
def test_arguments_out_of_range_are_refused(more, words):
    with pytest.raises(InputError, match=words):
        BandStatistics(**more)


def test_only_alike_and_independent_parts_are_merged():
    with pytest.raises(InputError, match="seed: got 0"):
        BandStatistics().merge(BandStatistics())
    with pytest.raises(InputError, match="percentiles"):
        BandStatistics().merge(BandStatistics(percentiles=(5,), seed=1))
