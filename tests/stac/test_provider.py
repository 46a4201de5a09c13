import dataclasses
import pickle
import sys

import pytest

from rscontrast.errors import BandError, InputError
from rscontrast.stac import search
from rscontrast.stac.provider import (
    GENERIC,
    PROVIDERS,
    MaskRule,
    Product,
    Provider,
    read_provider,
)
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


def row(assets, **properties):
    return {"id": "i", "collection": None, "assets": assets, **properties}


def test_asset_key_goes_before_band_and_common_name():
    assets = {
        "a": {"href": "a.tif", "bands": [{"name": "b", "eo:common_name": "c"}]},
        "b": {"href": "b.tif", "bands": [{"name": "z", "eo:common_name": "a"}]},
    }
    found = {name: GENERIC.band(row(assets), name).asset for name in ("a", "b", "c", "z")}
    assert found == {"a": "a", "b": "b", "c": "a", "z": "b"}


def test_a_picture_of_three_bands_does_not_stand_for_one():
    """A catalog often says of its true-colour picture of which bands it was made."""
    picture = [{"name": n, "common_name": c} for n, c in (("B04", "red"), ("B03", "green"))]
    assets = {
        "visual": {"href": "tci.tif", "eo:bands": picture},
        "r": {"href": "r.tif", "eo:bands": picture[:1]},
    }
    for name in ("B04", "red"):
        assert GENERIC.band(row(assets), name).asset == "r"
    assert GENERIC.band(row(assets), "green").index == 2


def test_defaults_where_metadata_say_nothing():
    source = GENERIC.band(row({"a": {"href": "a.tif"}}), "a")
    assert (source.index, source.scale, source.offset, source.nodata) == (1, 1.0, 0.0, None)


def test_zero_offset_is_a_value_not_a_gap():
    band = {"name": "a", "raster:offset": 0, "offset": 5, "nodata": 0}
    source = GENERIC.band(row({"a": {"href": "a.tif", "bands": [band]}}), "a")
    assert (source.offset, source.nodata) == (0.0, 0.0)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_missing_band_lists_what_there_is(world, version):
    item = world.item("here", grid(), version=version, stacked=True)
    with pytest.raises(BandError, match=r"item here.*'swir'.*all.*c_x.*c_y.*x, y"):
        sources(item, "swir")


def test_masks_by_role(sample_items):
    first = sample_items.iloc[0]
    assert [(m.asset, m.rule) for m in GENERIC.masks(first)] == [("cloud", MaskRule())]
    other = Provider("other", products=(Product(roles=("labels", "cloud")),))
    labelled = sample_items[sample_items["id"] == "west_20220824_a"].iloc[0]
    assert {m.asset for m in other.masks(labelled)} == {"cloud", "damage"}


def test_a_probability_is_no_mask_without_a_rule():
    assets = {"p": {"href": "p.tif", "roles": ["data", "cloud"]}}
    assert GENERIC.masks(row(assets)) == ()
    ruled = Provider("mine", products=(Product(masks={"p": MaskRule(above=0.5)}),))
    assert [m.rule.above for m in ruled.masks(row(assets))] == [0.5]


def test_what_is_read_travels_to_workers():
    for name in PROVIDERS:
        provider = read_provider(name)
        assert pickle.loads(pickle.dumps(provider)) == provider
        assert hash(provider) == hash(read_provider(name))


class TestNames:
    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        """A third party's package, on the path."""
        (tmp_path / "mycloud").mkdir()
        (tmp_path / "mycloud" / "__init__.py").write_text("")
        (tmp_path / "mycloud" / "stac.py").write_text(
            "from rscontrast.stac.provider import MaskRule, Product, Provider\n"
            "MINE = Provider('mine', products=(Product(('c',), {'red': 'r'}, 0.5,\n"
            "                masks={'m': MaskRule(bits=(2,))}),))\n"
            "OTHER = 3\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        yield "mycloud.stac"
        for name in ("mycloud", "mycloud.stac"):
            sys.modules.pop(name, None)

    def test_built_in(self):
        assert read_provider("generic") is GENERIC
        assert {read_provider(name).name for name in PROVIDERS} == set(PROVIDERS)
        assert read_provider(GENERIC) is GENERIC

    def test_a_third_partys(self, package):
        mine = read_provider(f"{package}:MINE")
        item = row({"r": {"href": "r.tif"}, "m": {"href": "m.tif"}}) | {"collection": "c"}
        assert (mine.band(item, "red").asset, mine.band(item, "red").scale) == ("r", 0.5)
        assert [m.rule for m in mine.masks(item)] == [MaskRule(bits=(2,))]
        other = item | {"collection": "d"}
        assert mine.band(other, "r").scale == 1.0
        assert mine.masks(other) == ()

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("planetary", "did you mean 'planetary-computer'"),
            ("no_such_module:MINE", "No module named 'no_such_module'"),
            ("mycloud.stac:NONE", "no attribute 'NONE'"),
            ("mycloud.stac:OTHER", "a Provider, not a int"),
            (":MINE", "module:NAME of a Provider"),
            (".stac:MINE", "module:NAME of a Provider"),
        ],
    )
    def test_names_of_nothing(self, package, name, says):
        with pytest.raises(InputError, match=says):
            read_provider(name)
