import numpy as np
import pytest
import shapely

from rscontrast.errors import InputError
from rscontrast.stac import split_by_place
from tests.stac.catalogs import archive


def shared(items, one, two):
    """Largest share of a footprint of ``one`` that lies on the ground of ``two``."""
    ground = items[items["split"] == two].union_all()
    some = items[items["split"] == one].geometry
    return (shapely.area(some.intersection(ground)) / shapely.area(some)).max()


def test_a_place_is_in_one_split_and_the_shares_are_met():
    items = split_by_place(archive(200, 5, seed=1), (0.6, 0.2, 0.2), block=3.0, seed=4)
    assert (items.groupby("tile")["split"].nunique() == 1).all()
    share = items.groupby("tile")["split"].first().value_counts(normalize=True)
    assert share["train"] == pytest.approx(0.6, abs=0.02)
    assert share["val"] == pytest.approx(0.2, abs=0.02)
    assert set(items["split"]) == {"train", "val", "test"}


def test_blocks_keep_neighbours_together():
    items = split_by_place(archive(400, 2), block=9.0)
    x, y = shapely.get_coordinates(shapely.centroid(items.geometry.to_numpy())).T
    block = [f"{a} {b}" for a, b in zip(x // 9, y // 9, strict=True)]
    assert (items.groupby(block)["split"].nunique() == 1).mean() > 0.9


def test_no_ground_is_in_two_splits():
    """Scenes of a degree every 0.4 degrees: those between two splits are left out."""
    items = split_by_place(archive(400, 3, spacing=0.4, jitter=0.02), block=4.0, seed=2)
    assert 0 < (items["split"] == "border").mean() < 0.5
    for one, two in (("train", "val"), ("train", "test"), ("val", "test")):
        assert shared(items, one, two) < 0.03
    assert len(items) == 1200


def test_neighbours_in_a_grid_of_tiles_are_not_left_out():
    items = archive(100, 1, spacing=1.0, jitter=0.0)
    wider = shapely.buffer(items.geometry.to_numpy(), 0.012, join_style="mitre")
    items = items.set_geometry(wider, crs=items.crs)
    assert "border" not in set(split_by_place(items, block=4.0)["split"])


def test_names_seeds_and_the_order_of_items():
    items = archive(60, 3)
    named = split_by_place(items, {"fit": 0.5, "check": 0.5}, block=3.0, seed=1)
    assert set(named["split"]) == {"fit", "check"}
    again = split_by_place(items.sample(frac=1), {"fit": 0.5, "check": 0.5}, block=3.0, seed=1)
    assert again.sort_index()["split"].equals(named["split"])
    other = split_by_place(items, {"fit": 0.5, "check": 0.5}, block=3.0, seed=2)
    assert not other["split"].equals(named["split"])


def test_footprints_of_one_size_split_alike_in_any_order():
    """Equal areas leave the leader of a place open, unless more than the area decides."""
    rng = np.random.default_rng(0)
    items = archive(60, 2, jitter=0.0)
    x, y = rng.integers(0, 64, (2, 120)) / 64 + rng.integers(0, 12, (2, 120))
    items = items.set_geometry(shapely.box(x, y, x + 1, y + 1), crs="EPSG:4326")
    one = split_by_place(items, block=2.0)
    assert split_by_place(items.sample(frac=1), block=2.0).sort_index().equals(one)


def test_two_collections_of_one_place_go_together():
    items = archive(30, 4)
    items["collection"] = np.where(np.arange(len(items)) % 2, "one", "two")
    items = split_by_place(items, block=3.0)
    assert (items.groupby("tile")["split"].nunique() == 1).all()


@pytest.mark.parametrize(
    ("argument", "value", "text"),
    [
        ("fractions", (0.5, 0.2, 0.2), "sum up to 1"),
        ("fractions", (0.5, 0.5), "three"),
        ("fractions", (1.2, -0.1, -0.1), "0 or more"),
        ("fractions", {"border": 1.0}, "by name"),
        ("block", 0, "above 0"),
        ("block", 500.0, "smaller blocks, or more places: nothing is left for"),
    ],
)
def test_bad_splits_name_their_argument(argument, value, text):
    with pytest.raises(InputError, match=f"{argument}: got .*{text}"):
        split_by_place(archive(9, 2), **{argument: value})
