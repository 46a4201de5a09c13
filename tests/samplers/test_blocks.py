from itertools import batched

import numpy as np
import pytest
import shapely

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import InputError
from rscontrast.io.cells import BYTES
from rscontrast.samplers import BlockAlignedPairSampler, TemporalPairSampler
from rscontrast.stac import pair_items, search
from tests.samplers.test_places import Footprints
from tests.samplers.test_rules import files_at
from tests.world import CORNER, World, grid

BLOCK, SIZE = (32, 48), (8, 12)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Three places, one of another zone; the later date of each sees a part only."""
    world = World(tmp_path_factory.mktemp("blocks"))
    for place, (east, crs) in enumerate([(0, 32632), (9000, 32632), (-380_000, 32633)]):
        for date, shape in enumerate([(200, 230), (200, 230), (150, 170)]):
            box = grid(f"EPSG:{crs}", corner=(CORNER[0] + east, CORNER[1]), shape=shape)
            when = f"2022-0{1 + 3 * date}-01T10:00:00"
            world.item(f"p{place}d{date}", box, when=when)
    return search(world.catalog())


@pytest.fixture(scope="module")
def images(items):
    return STACDataset(items, bands=["x"])


def sampler(images, **given):
    given = {"size": SIZE, "length": 600, "block": BLOCK, "generator": 0} | given
    return BlockAlignedPairSampler(images, **given)


def window(images, draw):
    """First row and column of a draw in the file of its first date, and that file."""
    x, y, (p, _) = (*images._disambiguate_slice(draw[:2])[:2], draw[2])
    box = images.geobox(x, y)
    item = files_at(images, x, y, p)[0]
    native = images.geoboxes[int(item)]
    col, row = ~native.transform @ (box.transform.c, box.transform.f)
    assert str(native.crs) == str(box.crs)
    assert box.shape == SIZE
    return item, row, col


def test_patches_lie_within_blocks_of_the_file(images):
    rows = np.array([window(images, draw) for draw in sampler(images)])
    assert len(rows) == 600
    assert np.abs(rows - rows.round()).max() < 1e-4
    rows = rows.round().astype(int)
    low = rows[:, 1:] % BLOCK
    assert (low + SIZE <= BLOCK).all()
    assert (low.min(axis=0) == 0).all()
    assert (low.max(axis=0) == np.array(BLOCK) - SIZE).all()
    assert len(set(rows[:, 0] % 3)) == 3


@pytest.mark.parametrize("res", [20.0, 5.0, 7.0])
def test_files_of_another_resolution(tmp_path, res):
    """A patch covers the same ground in each file, so more or fewer of its pixels."""
    world = World(tmp_path)
    for place, side in enumerate((10.0, res)):
        for date in range(2):
            box = grid(res=side, corner=(CORNER[0] + 9000 * place, CORNER[1]), shape=(200, 230))
            world.item(f"p{place}d{date}", box, when=f"2022-0{1 + 3 * date}-01T10:00:00")
    images = STACDataset(search(world.catalog()), bands=["x"])
    asked = {"block": (64, 64)}
    files = set()
    for draw in sampler(images, length=300, **asked):
        x, y, (p, _) = (*images._disambiguate_slice(draw[:2])[:2], draw[2])
        item = int(files_at(images, x, y, p)[0])
        native, box = images.geoboxes[item], images.geobox(x, y)
        corners = [(0, 0), (box.shape[1], box.shape[0])]
        (left, top), (right, low) = (~native.transform @ (box.transform @ c) for c in corners)
        for first, last in ((left, right), (top, low)):
            assert first // 64 == (last - 1e-6) // 64
        files.add(str(images.items["id"][item])[:2])
    assert files == {"p0", "p1"}


def test_both_dates_hold_the_patch(images, items):
    pairs = TemporalPairDataset(images)
    for draw in sampler(pairs, length=40):
        sample = pairs[draw]
        assert sample["valid"].all()
        assert sample["image"].shape[-2:] == SIZE
        # The pixels say where they lie: x of both dates is the same.
        assert (sample["image"][0] == sample["image"][1]).all()


def test_rules_and_places(images, items):
    allowed = pair_items(items, max_gap=100).frame()
    allowed = {(p, q) for p, q in zip(allowed.pre_datetime, allowed.post_datetime, strict=True)}
    drawn = {(p.start, q.start) for _, _, (p, q) in sampler(images, max_gap=100)}
    assert drawn == allowed
    table = pair_items(items, max_gap=100)
    assert {(p.start, q.start) for _, _, (p, q) in sampler(images, pairs=table)} == allowed
    places = [int(window(images, draw)[0]) % 3 for draw in sampler(images, length=2400)]
    visits = np.bincount(places) / 8
    assert np.abs(visits - 100).max() < 4 * np.sqrt(300 * 2 / 9)


def blocks_of(images, draws):
    found = [window(images, draw) for draw in draws]
    return [(int(i), round(r) // BLOCK[0], round(c) // BLOCK[1]) for i, r, c in found]


def test_several_patches_of_each_block_shuffled(images):
    for per_block, blocks in ((4, 6), (8, 3)):
        length = 3 * per_block * blocks
        drawn = blocks_of(
            images, sampler(images, per_block=per_block, blocks=blocks, length=length)
        )
        for batch in batched(drawn, per_block * blocks):
            counts = np.unique(np.array(batch), axis=0, return_counts=True)[1]
            assert len(counts) <= blocks
            assert (counts % per_block == 0).all()  # two visits may be of one block
            assert list(batch) != sorted(batch, key=batch.index)


def distinct(buffer, per_block, batch):
    """Blocks that a batch out of a shuffled buffer shows, on average (the docstring's numbers)."""
    count = buffer * per_block
    absent = np.prod([(count - per_block - k) / (count - k) for k in range(batch)])
    return buffer * (1 - absent)


def test_the_numbers_of_the_docstring(images):
    text = " ".join((BlockAlignedPairSampler.__doc__ or "").split())
    assert f"64 pairs a batch, {round(distinct(8, 8, 64))} blocks in place of 64" in text
    kept, each = BYTES // 2**20, 2 * 2  # MB; two dates, 1024 x 1024 pixels of 16 bits
    assert f"the reader keeps, {kept} MB a process" in text
    assert f"{8 * 4 * each} MB for four bands and the defaults" in text
    assert 8 * 4 * each <= kept < 16 * 4 * each
    assert f"13 bands the defaults are beyond it ({8 * 13 * each} MB)" in text
    assert 2 * 13 * each <= kept < 4 * 13 * each
    offsets, block, patch = 1024 - 256 + 1, 1024, 256
    row = np.arange(block)
    seen = np.minimum(row, offsets - 1) - np.maximum(row - patch + 1, 0) + 1
    seen = seen / seen.mean()
    assert round(1 / seen[0]) == 192
    assert f"{100 * (seen < 0.5).mean():.0f} % of the rows" in text
    assert f"{seen.max():.2f} times" in text
    assert np.isclose(seen[96], 0.5, atol=0.01)
    needed = 1 + (patch - 1) / block
    assert f"needs {needed**2:.1f} blocks" in text


def test_measured_randomness_is_the_computed_one(images):
    made = sampler(images, per_block=4, blocks=12, length=48 * 20)
    batches = [set(blocks_of(images, batch)) for batch in batched(made, 16)]
    visits = np.mean([len(batch) for batch in batches])
    assert visits == pytest.approx(distinct(12, 4, 16), rel=0.12)


@pytest.mark.parametrize("other", [(-1920, 0), (1920, 0), (0, 1920), (0, -1920)])
def test_all_files_of_an_acquisition_are_visited(tmp_path, other):
    world = World(tmp_path)
    for month in (1, 4):
        for second, (east, north) in enumerate([(0, 0), other]):
            box = grid(corner=(CORNER[0] + east, CORNER[1] + north), shape=(192, 192))
            world.item(f"d{month}{second}", box, when=f"2022-0{month}-01T10:00:0{4 * second}")
    images = STACDataset(search(world.catalog()), bands=["x"])
    made = sampler(images, size=8, block=(64, 64), length=8 * 600)
    found = blocks_by_place(images, made, 64)
    # Two files of 3 x 3 blocks each, all visited alike.
    assert len(found) == 18
    visits = np.array(list(found.values())) / 8
    assert ((visits - 600 / 18) ** 2 / (600 / 18)).sum() < 17 + 4 * np.sqrt(2 * 17)


def blocks_by_place(images, made, side):
    """How many draws lie in each block of each place; none across blocks."""
    counts = {}
    for x, y, _ in made:
        files = [box for box in images.geoboxes[:2] if holds(box, x, y)]
        assert len(files) == 1
        col, row = ~files[0].transform @ (x.start, y.stop)
        col, row = round(col), round(row)
        assert col % side + 8 <= side
        assert row % side + 8 <= side
        key = files[0].transform.c, files[0].transform.f, row // side, col // side
        counts[key] = counts.get(key, 0) + 1
    return counts


def holds(box, x, y):
    bounds = box.extent.boundingbox
    return bounds.left <= (x.start + x.stop) / 2 < bounds.right and (
        bounds.bottom <= (y.start + y.stop) / 2 < bounds.top
    )


def test_the_roi_of_the_sample_data_is_covered(sample_items):
    """Each date of it is two files."""
    images = STACDataset(sample_items, bands=["red"])
    made = sampler(images, size=32, length=4000, block=None)
    drawn = shapely.union_all([shapely.box(x.start, y.start, x.stop, y.stop) for x, y, _ in made])
    assert drawn.intersection(made.roi).area > 0.95 * made.roi.area


def test_a_table_without_ids_is_found_by_time_and_place(images, items):
    pairs = pair_items(items).frame()
    bare = pairs.drop(columns=["pre_ids", "post_ids", "collection"])
    named, found = (list(sampler(images, pairs=table, length=200)) for table in (pairs, bare))
    assert [draw[:2] for draw in found] == [draw[:2] for draw in named]


def test_epochs_and_shares(images):
    every = list(sampler(images, length=50))
    halves = [sampler(images, length=50) for _ in range(2)]
    for rank, half in enumerate(halves):
        half._share = (rank, 2)
        assert list(half) == every[rank::2]
    later = sampler(images, length=50)
    later.load_state_dict({"seed": 0, "epoch": 0, "length": 50, "drawn": 30})
    assert list(later) == every[30:]
    assert list(later) != every


def test_one_grid_in_the_same_crs(items):
    images = STACDataset(items[items["id"] < "p2"], bands=["x"], crs="EPSG:32632", res=20)
    for x, y, _ in sampler(images, length=50):
        assert np.allclose([x.stop - x.start, y.stop - y.start], [240, 160])
    zones = STACDataset(items, bands=["x"], crs="EPSG:32632", res=10)
    with pytest.raises(InputError, match="native grids"):
        list(sampler(zones))


def test_the_block_of_the_file(images):
    made = sampler(images, block=None)
    assert made.block == (16, 16)
    for draw in made:
        _, row, col = window(images, draw)
        assert round(row) % 16 <= 8
        assert round(col) % 16 <= 4


def test_bad_blocks(images):
    with pytest.raises(InputError, match="at most a block"):
        sampler(images, size=40)
    with pytest.raises(InputError, match="STACDataset"):
        sampler(Footprints(list(images.index.geometry)))
    with pytest.raises(InputError, match="per_block"):
        sampler(images, per_block=0)
    for block in ("a", (64.5, 64), (0, 64), (-64, 64), (64, 64, 64)):
        with pytest.raises(InputError, match="block: got"):
            sampler(images, block=block)
    assert sampler(images, block=np.int64(32)).block == (32, 32)
    for given in ({"min_valid": 0.5}, {"tries": 5}, {"max_gapp": 3}):
        for pairs in (None, pair_items(images.items)):
            with pytest.raises(InputError, match=f"rule: got '{next(iter(given))}'"):
                sampler(images, pairs=pairs, **given)
    with pytest.raises(InputError, match="size"):
        list(sampler(images, size=240, block=(256, 256)))


def test_a_pair_sampler_alone_crosses_blocks(images):
    """What the block sampler is compared with."""
    drawn = TemporalPairSampler(images, size=SIZE, length=300, generator=0)
    crossing = [(row % BLOCK[0]) + SIZE[0] > BLOCK[0] for _, row, _ in (
        window(images, draw) for draw in drawn)]  # fmt: skip
    assert 0.1 < np.mean(crossing) < 0.4
