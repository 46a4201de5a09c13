import json
import os
import pickle
import subprocess
import sys
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import shapely
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
)
from torchgeo.samplers import (
    GriddedPatchSampler,
    RandomGeoSampler,
    RandomPatchSampler,
    RandomTimestampSampler,
    SequentialTimestampSampler,
)

from rscontrast.datamodules.draws import PairDraws
from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import InputError
from rscontrast.samplers import EpochSampler, RandomPlaceSampler, TemporalPairSampler
from rscontrast.stac import pair_items, search
from tests.conftest import ROOT
from tests.samplers.draws import LENGTH, Echo, cells, footprints, numbers, product, sampler
from tests.samplers.test_places import Footprints
from tests.world import CORNER, World
from tests.world import grid as grid_at

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
    told = {"seed": 5, "length": LENGTH}
    assert all(state == told | {"epoch": 1, "drawn": steps * before} for state in states)
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
    assert all(one.state_dict() == told | {"epoch": 2, "drawn": 0} for one in rest)


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


def spread_over(patches):
    """How many patches begin in each tenth of each of two places."""
    starts = np.array([x.start for x, _, _ in patches])
    return np.histogram(starts % 5000 + 1000 * (starts > 2500), np.linspace(0, 2000, 11))[0]


@pytest.mark.parametrize("noise", [{}, {"event": "2020-04-15", "noisy_share": 0.5}])
def test_spares_come_from_other_places_where_the_pairs_run_out(noise):
    # With noise each place has one pair of each kind, else just one.
    days = ["2020-02-01", "2020-03-01", "2020-06-01"][: 3 if noise else 2]
    shapes = [shapely.box(x, 0, x + 1000, 1000) for x in (0, 5000) for _ in days]
    data = Footprints(shapes, times=days * 2)
    rules = {"max_gap": 95, **noise}
    times = TemporalPairSampler(data, min_valid=0.9, tries=4, generator=0, **rules)
    size = {"size": 10, "length": 400}
    plain = RandomPlaceSampler(data, roi=times.roi, generator=0, **size) @ times
    one = EpochSampler(plain, seed=2)
    epochs = [list(one) for _ in range(2)]
    one.set_epoch(0)
    again = list(one)
    for drawn, repeated in zip(epochs[0], again, strict=True):
        assert drawn == repeated
        assert drawn.spares == repeated.spares
    for drawn in epochs[0]:
        assert len(drawn.spares) == 3
        patches = (drawn, *drawn.spares)
        assert len({patch[:2] for patch in patches}) > 2
        assert len({post.start > pd.Timestamp("2020-04-15") for _, _, (_, post) in patches}) == 1
    spares = [spare for drawn in epochs[0] for spare in drawn.spares]
    assert not {spare[:2] for spare in spares} <= {drawn[:2] for drawn in epochs[0]}
    assert [d.spares for d in epochs[0]] != [d.spares for d in epochs[1]]
    # They lie where draws lie.
    a, b = spread_over(spares), spread_over([*epochs[0], *epochs[1]])
    scale = np.sqrt(b.sum() / a.sum())
    assert ((a * scale - b / scale) ** 2 / (a + b)).sum() < 9 + 4 * np.sqrt(18)
    assert all(len(drawn.spares) < 3 for drawn in islice(plain, 5))


def test_the_draws_of_a_module_by_area_are_redrawn_elsewhere(tmp_path):
    """Clouds hide one of two places, of which each has one pair."""
    world = World(tmp_path)
    for month in (1, 4):
        for place, east in enumerate((0, 9000)):
            box = grid_at(corner=(CORNER[0] + east, CORNER[1]))
            bands = {"x": np.full(box.shape, 0 if place else 7)}
            when = f"2022-0{month}-01T10:00:00"
            world.item(f"p{place}d{month}", box, when=when, bands=bands, nodata=0)
    items = search(world.catalog())
    dataset = TemporalPairDataset(STACDataset(items, bands=["x"]))
    draws = PairDraws(patch_size=16, min_valid=0.9, tries=6)
    made = EpochSampler(draws.sampler(dataset, pair_items(items).frame(), 64, 0), seed=0)
    samples = [dataset[draw] for draw in made]
    tries = np.array([int(sample["tries"]) for sample in samples])
    assert (tries == 1).any()
    assert tries.max() > 2
    shares = np.array([float(sample["valid_share"]) for sample in samples])
    # One in 2 ** 6 finds no good one.
    assert (shares < 0.9).sum() <= 5
    assert ((shares >= 0.9) | (tries == 6)).all()


def test_cells_of_a_grid_are_not_left():
    data = footprints()
    times = TemporalPairSampler(data, max_gap=31, min_valid=0.9, tries=50)
    for cell in islice(EpochSampler(GriddedPatchSampler(data, size=50) @ times), 20):
        assert {spare[:2] for spare in cell.spares} == {cell[:2]}


def test_what_cannot_be_seeded():
    data = footprints()
    with pytest.warns(DeprecationWarning):  # noqa: PT030  # two, of the class and of its inside
        old = RandomGeoSampler(data, size=10, length=3)
    shared = DistributedSampler(range(4), num_replicas=2, rank=0)
    batches = [
        BatchSampler(inner, 2, drop_last=False)
        for inner in (RandomSampler(range(4)), shared, product(3), sampler("alone"))
    ]
    assert len(EpochSampler(BatchSampler(SequentialSampler(range(4)), 2, drop_last=False))) == 2
    for foreign in (RandomSampler(range(4)), old, shared, *batches):
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
    good = one.state_dict()
    one.load_state_dict(good)
    for state in (None, {}, {"seed": 0, "epoch": 0}, good | {"drawn": -1}, good | {"drawn": "x"}):
        with pytest.raises(InputError):
            one.load_state_dict(state)


def test_a_state_of_another_length_or_seed_is_refused():
    state = sampler("alone").state_dict()
    longer = TemporalPairSampler(footprints(), size=10, length=LENGTH + 1, generator=5)
    with pytest.raises(InputError, match=rf"\({LENGTH}, 0\).*{LENGTH + 1} draws an epoch"):
        longer.load_state_dict(state)
    with pytest.raises(InputError, match=r"drawn: got .*38"):
        sampler("alone").load_state_dict(state | {"drawn": LENGTH + 1})
    for kind in KINDS:
        with pytest.raises(InputError, match=r"seed: got 6; .* seed 5"):
            sampler(kind).load_state_dict(state | {"seed": 6})
    # Without a seed of its own it takes the state's.
    unseeded = TemporalPairSampler(footprints(), size=10, length=LENGTH)
    unseeded.load_state_dict(state)
    assert list(unseeded) == list(sampler("alone"))


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


def test_among_ranks_a_grid_gives_each_cell_its_pairs(trained):
    for notes in trained["alone"]:
        assert notes["cells"] == [[50, 50], [50, 50], [150, 150]]
    assert cells() == [(50, 50), (50, 50), (150, 150)]


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
