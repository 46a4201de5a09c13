import json
import os
import pickle
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
import shapely
import torch
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler
from torchgeo.samplers import (
    GriddedPatchSampler,
    RandomGeoSampler,
    RandomPatchSampler,
    RandomTimestampSampler,
    SequentialTimestampSampler,
)

from rscontrast.errors import InputError
from rscontrast.samplers import EpochSampler, RandomPlaceSampler, TemporalPairSampler
from tests.conftest import ROOT
from tests.samplers.draws import LENGTH, Echo, footprints, numbers, product, sampler

KINDS = ["alone", "wrapped", "product"]


def shares(kind, world):
    made = [sampler(kind) for _ in range(world)]
    for rank, one in enumerate(made):
        one._share = (rank, world)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_are_disjoint_and_whole(kind, world):
    every = list(sampler(kind))
    parts = [list(one) for one in shares(kind, world)]
    assert {len(part) for part in parts} == {LENGTH // world}
    assert all(len(one) == LENGTH // world for one in shares(kind, world))
    for rank, part in enumerate(parts):
        assert part == every[rank : LENGTH // world * world : world]


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_follow_from_the_seed(kind):
    one, two = sampler(kind), sampler(kind)
    epochs = [list(one) for _ in range(3)]
    assert one.epoch == 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    two.set_epoch(2)
    assert list(two) == epochs[2]
    two.set_epoch(0)
    assert list(two) == epochs[0]
    assert len(set(epochs[0])) > LENGTH // 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drawn", [0, 1, 8, 36, 37])
@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_resumed_run_is_the_unbroken_one(kind, drawn, before, after):
    whole = [list(epoch) for epoch in (sampler(kind),) for epoch in (list(epoch), list(epoch))]
    first = shares(kind, before)
    for one in first:
        assert len(list(one)) == LENGTH // before
    steps = drawn // before
    held = [iter(one) for one in first]  # an iterator that is dropped must not move on
    seen = [list(islice(it, steps)) for it in held]
    states = [json.loads(json.dumps(one.state_dict())) for one in first]
    assert all(state == {"seed": 5, "epoch": 1, "drawn": steps * before} for state in states)
    rest = shares(kind, after)
    for one in rest:
        one.load_state_dict(states[0])
        one.set_epoch(1)  # as Lightning does: that must not begin the epoch anew
    left = (LENGTH - steps * before) // after
    tails = [list(one) for one in rest]
    assert {len(tail) for tail in tails} == {left}
    joined = [draw for group in zip(*seen, strict=True) for draw in group]
    joined += [draw for group in zip(*tails, strict=True) for draw in group]
    assert joined == whole[1][: len(joined)]
    assert len(joined) > LENGTH - after
    assert all(one.state_dict() == {"seed": 5, "epoch": 2, "drawn": 0} for one in rest)


def test_iterated_again_it_yields_the_same_until_the_end():
    one = sampler("product")
    first = list(islice(one, 5))
    assert one.state_dict()["drawn"] == 5
    assert list(islice(one, 5)) == first
    state = one.state_dict()
    one.load_state_dict(state)
    rest = list(islice(one, 5))
    assert list(islice(one, 5)) == rest != first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_workers_draws_the_same(kind, workers):
    loader = DataLoader(Echo(), batch_size=5, sampler=sampler(kind), num_workers=workers)
    for epoch in range(2):
        one = sampler(kind)
        one.set_epoch(epoch)
        rows = torch.cat(list(loader)).tolist()
        assert [tuple(row) for row in rows] == numbers(one)


def test_the_wrapped_sampler_is_not_changed():
    inner = product(3)
    states = [s.generator.bit_generator.state for s in vars(inner).values()]
    wrapped = EpochSampler(inner)
    assert len(wrapped) == LENGTH
    first = list(wrapped)
    assert [s.generator.bit_generator.state for s in vars(inner).values()] == states
    two = [iter(EpochSampler(inner)) for _ in range(2)]
    mixed = [draw for pair in zip(*two, strict=True) for draw in pair]
    assert mixed[::2] == mixed[1::2] == first


def test_halves_draw_independently():
    """One seed for both would tie dates to places."""
    drawn = [draw for seed in range(60) for draw in islice(EpochSampler(product(), seed=seed), 1)]
    right = np.array([x.start > 2500 for x, _, _ in drawn])
    early = np.array([p.start.month <= 2 for _, _, (p, _) in drawn])
    assert 5 < (right & early).sum() < 30
    assert abs(np.corrcoef(right, early)[0, 1]) < 0.5


def test_torchgeos_samplers():
    data = footprints()
    grid = GriddedPatchSampler(data, size=50)
    for spatial in (RandomPatchSampler(data, size=10, length=9), grid):
        for temporal in (TemporalPairSampler(data), RandomTimestampSampler(data)):
            one, two = (EpochSampler(spatial @ temporal, seed=1) for _ in range(2))
            assert len(one) == len(spatial @ temporal)
            assert list(one) == list(two)
    assert list(EpochSampler(grid)) == list(grid)
    every = grid @ SequentialTimestampSampler(data)
    assert len(EpochSampler(every)) == len(list(every))


def test_a_grid_gives_each_cell_its_pairs_at_any_world():
    data = footprints()
    times = TemporalPairSampler(data, length=3, generator=0)
    grid = GriddedPatchSampler(data, size=50)
    wrapped = EpochSampler(grid @ times, rank=1, world=2)
    cells = len(list(grid))
    assert len(wrapped) == len(list(wrapped)) == 3 * cells // 2


def test_what_cannot_be_seeded():
    data = footprints()
    with pytest.warns(DeprecationWarning):  # noqa: PT030  # two, of the class and of its inside
        old = RandomGeoSampler(data, size=10, length=3)
    shared = DistributedSampler(range(4), num_replicas=2, rank=0)
    for foreign in (RandomSampler(range(4)), old, shared):
        with pytest.raises(InputError, match="sampler: got"):
            EpochSampler(foreign)
    broken = RandomPlaceSampler(data, size=10, length=3)
    broken.generator = torch.Generator()
    with pytest.raises(InputError, match="numpy"):
        EpochSampler(broken @ TemporalPairSampler(data))


@pytest.mark.parametrize(
    "given", [{"seed": -1}, {"rank": 0}, {"world": 2}, {"rank": 2, "world": 2}, {"seed": 0.5}]
)
def test_bad_shares(given):
    with pytest.raises(InputError):
        EpochSampler(product(), **given)


def test_bad_states():
    one = EpochSampler(product())
    for state in ({}, {"seed": 0, "epoch": 0}, {"seed": 0, "epoch": 0, "drawn": -1}):
        with pytest.raises(InputError):
            one.load_state_dict(state)


def test_ranks_need_a_seed():
    one = TemporalPairSampler(footprints(), size=10, length=LENGTH)
    assert len(list(one)) == LENGTH
    one._share = (0, 2)
    with pytest.raises(InputError, match="generator: got None"):
        next(iter(one))


def test_samplers_go_to_other_processes():
    for kind in KINDS:
        one = sampler(kind)
        assert isinstance(one, DistributedSampler)
        draw = next(iter(one))
        again = pickle.loads(pickle.dumps(one))
        assert next(iter(again)) == draw


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What each of two ranks of Lightning got and noted, by kind of sampler."""
    folder, kinds = tmp_path_factory.mktemp("ranks"), ["product", "alone", "plain"]
    quiet = {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.samplers.draws", str(folder), *kinds],
        cwd=ROOT, env={**os.environ, **quiet}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return {
        kind: [json.loads((folder / f"{kind}-{rank}.json").read_text()) for rank in range(2)]
        for kind in kinds
    }


def steps(notes, epoch):
    rows = [row for at, batch in notes["seen"] if at == epoch for row in batch]
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("kind", ["product", "alone"])
def test_two_ranks_of_lightning_share_what_one_process_draws(kind, trained):
    ranks, one = trained[kind], sampler(kind)
    for epoch in range(2):
        one.set_epoch(epoch)
        expected = numbers(one)
        parts = [steps(notes, epoch) for notes in ranks]
        assert parts == [expected[:36:2], expected[1:36:2]]
        assert not set(parts[0]) & set(parts[1])
    name = type(one).__name__
    assert all(notes["kept"] == [name] * 2 for notes in ranks)


def test_without_it_lightning_wraps_what_has_equal_seeds(trained):
    """What the docstring of EpochSampler says of plain products."""
    ranks = trained["plain"]
    assert all(notes["kept"] == ["DistributedSamplerWrapper"] * 2 for notes in ranks)
    plain = sampler("plain")
    for epoch in range(2):
        expected = numbers(plain)
        parts = [steps(notes, epoch) for notes in ranks]
        assert {len(part) for part in parts} == {19}  # one draw comes twice
        assert set(parts[0]) | set(parts[1]) == set(expected)
        assert len(set(parts[0]) & set(parts[1])) <= 1
    assert shapely.box(0, 0, 6000, 1000).covers(shapely.points(np.array(expected)[:, :2])).all()
