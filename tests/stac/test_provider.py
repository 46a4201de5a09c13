import dataclasses

import pytest

from rscontrast.errors import BandError
from rscontrast.stac import search
from rscontrast.stac.provider import GENERIC, Provider
from tests.world import grid, sources


@pytest.mark.parametrize("stacked", [False, True])
def test_both_versions_of_stac_mean_the_same(world, stacked):
    made = [
        world.item(
            name, grid(), dtype="uint16", nodata=7, scale=0.5, offset=-3.0, stacked=stacked,
            version=version,
        )
        for name, version in (("old", "1.0"), ("new", "1.1"))
    ]  # fmt: skip
    for name in ("x", "y", "c_x", "c_y"):
        old, new = (dataclasses.replace(sources(item, name)[0], item="", href="") for item in made)
        assert old == new
        assert (new.scale, new.offset, new.nodata) == (0.5, -3.0, 7.0)
        assert new.index == (2 if stacked and name.endswith("y") else 1)
    assert set(search(world.catalog())["id"]) == {"old", "new"}


def test_asset_key_goes_before_band_and_common_name():
    assets = {
        "a": {"href": "a.tif", "bands": [{"name": "b", "eo:common_name": "c"}]},
        "b": {"href": "b.tif", "bands": [{"name": "z", "eo:common_name": "a"}]},
    }
    found = {name: GENERIC.band("i", assets, name).asset for name in ("a", "b", "c", "z")}
    assert found == {"a": "a", "b": "b", "c": "a", "z": "b"}


def test_defaults_where_metadata_say_nothing():
    source = GENERIC.band("i", {"a": {"href": "a.tif"}}, "a")
    assert (source.index, source.scale, source.offset, source.nodata) == (1, 1.0, 0.0, None)


def test_zero_offset_is_a_value_not_a_gap():
    band = {"name": "a", "raster:offset": 0, "offset": 5, "nodata": 0}
    source = GENERIC.band("i", {"a": {"href": "a.tif", "bands": [band]}}, "a")
    assert (source.offset, source.nodata) == (0.0, 0.0)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_missing_band_lists_what_there_is(world, version):
    item = world.item("here", grid(), version=version, stacked=True)
    with pytest.raises(BandError, match=r"item here.*'swir'.*all.*c_x.*c_y.*x, y"):
        sources(item, "swir")


def test_masks_by_role(sample_items):
    row = sample_items.iloc[0]
    assert [m.asset for m in GENERIC.masks(row["id"], row["assets"])] == ["cloud"]
    other = Provider("other", mask_roles=("labels", "cloud"))
    labelled = sample_items[sample_items["id"] == "west_20220824_a"].iloc[0]
    keys = {m.asset for m in other.masks(labelled["id"], labelled["assets"])}
    assert keys == {"cloud", "damage"}
