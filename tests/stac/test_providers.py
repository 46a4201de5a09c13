"""The providers' tables, on real items where there are some, else on items built like theirs."""

import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from stac_geoparquet.arrow import stac_table_to_items

from rscontrast.errors import BandError
from rscontrast.stac.provider import GENERIC, PROVIDERS, read_provider
from rscontrast.stac.signing import BearerSigner, RequesterPays, SharedAccessSigner

DATA = Path(__file__).parents[3] / "shared" / "data" / "stac"
EARTH, PLANETARY = read_provider("earth-search"), read_provider("planetary-computer")
CMR, MAXAR = read_provider("cmr"), read_provider("maxar")
REFLECTANCE = ("coastal", "blue", "green", "red", "nir", "nir08", "swir16", "swir22")


def real_rows(name):
    path = DATA / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path.name} is not beside the checkout (../shared/data/stac)")
    return [
        {**item, **item["properties"], "assets": {k: a for k, a in item["assets"].items() if a}}
        for item in stac_table_to_items(pq.read_table(path))
    ]


@pytest.mark.realdata
class TestRealItems:
    """All come from the Planetary Computer: Sentinel-2 of STAC 1.0 and of 1.1, and Landsat."""

    @pytest.mark.parametrize("file", ["sentinel2_1000_items", "sentinel2_100_items_one_tile"])
    def test_sentinel2(self, file):
        names = (*REFLECTANCE, "rededge1", "rededge2", "rededge3", "nir09")
        bands = ["B01", "B02", "B03", "B04", "B08", "B8A", "B11", "B12", "B05", "B06", "B07", "B09"]
        for row in real_rows(file):
            assert row["s2:processing_baseline"] >= "04.00"
            for name, band in zip(names, bands, strict=True):
                source = PLANETARY.band(row, name)
                assert re.search(rf"_{band}_\d0m\.tif$", source.href)
                assert (source.scale, source.offset, source.nodata) == (1e-4, -0.1, 0.0)
                assert source == PLANETARY.band(row, band)
            picture = PLANETARY.band(row, "visual")
            assert (picture.scale, picture.offset) == (1.0, 0.0)
            (scl,) = PLANETARY.masks(row)
            assert scl.asset == "SCL"
            assert scl.href.endswith("_SCL_20m.tif")
            assert set(scl.rule.values) == {0, 1, 3, 8, 9, 10}

    def test_landsat(self):
        rows = real_rows("landsat_100_items")
        assert {row["platform"] for row in rows} == {"landsat-7", "landsat-8", "landsat-9"}
        for row in rows:
            for name in set(REFLECTANCE) - {"coastal"}:
                source = PLANETARY.band(row, name)
                assert "_SR_B" in source.href
                assert (source.scale, source.offset, source.nodata) == (2.75e-5, -0.2, 0.0)
            (mask,) = PLANETARY.masks(row)
            assert mask.href.endswith("_QA_PIXEL.TIF")
            named = {
                field["offset"]: field["name"]
                for field in row["assets"]["qa_pixel"]["classification:bitfields"]
            }
            assert [named.get(bit, "cirrus") for bit in mask.rule.bits] == [
                "fill", "dilated_cloud", "cirrus", "cloud", "cloud_shadow",
            ]  # fmt: skip
            assert GENERIC.masks(row)[0].rule == mask.rule
        with pytest.raises(BandError, match=r"'coastal'; allowed: .*blue"):
            PLANETARY.band(next(r for r in rows if r["platform"] == "landsat-7"), "coastal")

    def test_links_are_unsigned_and_signed_by_their_host(self):
        for row in real_rows("landsat_100_items"):
            source = PLANETARY.band(row, "red")
            assert source.signer == PLANETARY.signer
            assert "?" not in source.href
            assert source.href.split("/")[2].endswith(PLANETARY.signer.domain)

    @pytest.mark.parametrize(
        ("provider", "file", "name"),
        [
            (PLANETARY, "sentinel2_1000_items", ("s2:mgrs_tile",)),
            (PLANETARY, "landsat_100_items", ("landsat:wrs_path", "landsat:wrs_row")),
            (GENERIC, "sentinel2_1000_items", ("s2:mgrs_tile",)),
        ],
    )
    def test_places_have_names(self, provider, file, name):
        for row in real_rows(file):
            first = next(keys for keys in provider.place if all(row.get(k) for k in keys))
            assert first == name

    def test_maxar_places(self):
        table = pq.read_table(DATA / "maxar_events.parquet") if DATA.is_dir() else pytest.skip()
        assert MAXAR.place[0] == ("quadkey",)
        assert table["quadkey"].null_count == 0
        assert table["grid:code"].null_count > 0


def earth_search(collection, baseline=None, applied=None, offset=-0.1):
    """An item with the fields and asset keys that Earth Search v1 gives."""
    said = {"nodata": 0, "data_type": "uint16", "spatial_resolution": 10, "scale": 0.0001}
    asset = {"roles": ["data", "reflectance"], "raster:bands": [said | {"offset": offset}]}
    uint8 = [{"nodata": 0, "data_type": "uint8"}]
    keys = [
        "coastal",
        "blue",
        "green",
        "red",
        "rededge1",
        "rededge2",
        "rededge3",
        "nir",
        "nir08",
        "nir09",
        "swir16",
        "swir22",
    ]
    assets = {key: asset | {"href": f"https://host/{key}.tif"} for key in keys}
    assets["red-jp2"] = asset | {"href": "s3://sentinel-s2-l2a/red.jp2"}
    assets["scl"] = {"href": "scl.tif", "roles": ["data"], "raster:bands": uint8}
    assets["cloud"] = {"href": "cld.tif", "roles": ["data", "cloud"], "raster:bands": uint8}
    row = {"id": "i", "collection": collection, "assets": assets}
    row |= {} if baseline is None else {"s2:processing_baseline": baseline}
    return row | ({} if applied is None else {"earthsearch:boa_offset_applied": applied})


class TestOffsetOfSentinel2:
    """From baseline 04.00 on numbers are 1000 higher: taken off once, by us or the publisher."""

    @pytest.mark.parametrize("said", [-0.1, 0.0])
    @pytest.mark.parametrize(
        ("baseline", "applied", "offset"),
        [
            ("05.11", True, 0.0),
            ("04.00", True, 0.0),
            ("05.11", False, -0.1),
            ("04.00", False, -0.1),
            ("04.00", None, -0.1),
            ("03.01", False, 0.0),
            ("02.14", None, 0.0),
            (None, True, 0.0),
        ],
    )
    def test_earth_search_whatever_raster_bands_says(self, baseline, applied, offset, said):
        row = earth_search("sentinel-2-l2a", baseline, applied, said)
        for name in ("red", "B04", "nir08", "swir22"):
            source = EARTH.band(row, name)
            assert (source.scale, source.offset, source.nodata) == (1e-4, offset, 0.0)

    @pytest.mark.parametrize("said", [-0.1, 0.0])
    def test_without_a_baseline_the_item_is_believed(self, said):
        assert EARTH.band(earth_search("sentinel-2-l2a", offset=said), "red").offset == said

    def test_the_originals_beside_the_converted_files_keep_their_offset(self):
        row = earth_search("sentinel-2-l2a", "05.11", True)
        assert EARTH.band(row, "red-jp2").offset == -0.1

    @pytest.mark.parametrize("applied", [False, None, float("nan")])
    def test_collection_1(self, applied):
        row = earth_search("sentinel-2-c1-l2a", "05.00", applied)
        assert EARTH.band(row, "red").offset == -0.1

    def test_level_1c_is_as_delivered(self):
        row = earth_search("sentinel-2-l1c", "05.10", offset=0.0)
        assert EARTH.band(row, "red").offset == -0.1
        assert EARTH.masks(row) == ()

    @pytest.mark.parametrize(("baseline", "offset"), [("02.12", 0.0), ("04.00", -0.1)])
    def test_planetary_computer(self, baseline, offset):
        row = earth_search("sentinel-2-l2a", baseline)
        row["assets"] = {"B04": {"href": "B04.tif"}, "AOT": {"href": "AOT.tif"}}
        assert PLANETARY.band(row, "red").offset == offset
        aerosol = PLANETARY.band(row, "AOT")
        assert (aerosol.scale, aerosol.offset, aerosol.nodata) == (1.0, 0.0, None)


def test_a_probability_of_cloud_beside_the_classes_is_no_mask():
    """Collection 1 gives both; every pixel above 0 % cloud would be hidden, and 0 is its nodata."""
    row = earth_search("sentinel-2-c1-l2a", "05.00")
    assert [mask.asset for mask in EARTH.masks(row)] == ["scl"]
    assert [mask.asset for mask in GENERIC.masks(row)] == ["scl"]


@pytest.mark.parametrize(
    ("collection", "nir", "swir"),
    [("HLSS30_2.0", "B08", "B11"), ("HLSL30_2.0", "B05", "B06")],
)
def test_hls(collection, nir, swir):
    keys = ("B02", "B03", "B04", "B05", "B06", "B08", "B11", "B10", "Fmask")
    assets = {
        key: {"href": f"https://data.lpdaac.earthdatacloud.nasa.gov/{key}.tif"} for key in keys
    }
    row = {"id": "i", "collection": collection, "assets": assets}
    elsewhere = {"HLSS30_2.0": "hls2-s30", "HLSL30_2.0": "hls2-l30"}[collection]
    for provider, of in ((CMR, collection), (PLANETARY, elsewhere)):
        for name, key in (("red", "B04"), ("nir", nir), ("swir16", swir)):
            source = provider.band(row | {"collection": of}, name)
            assert source.asset == key
            assert (source.scale, source.offset, source.nodata) == (1e-4, 0.0, -9999.0)
        (mask,) = provider.masks(row | {"collection": of})
        assert (mask.asset, mask.rule.bits) == ("Fmask", (1, 2, 3))
    thermal = {"HLSS30_2.0": 1e-4, "HLSL30_2.0": 1.0}[collection]
    assert CMR.band(row, "B10").scale == thermal  # cirrus of Sentinel-2, heat of Landsat


def test_both_versions_of_stac_are_one_item():
    facts = {"nodata": 0, "data_type": "uint16"}
    old = {
        "href": "r.tif",
        "eo:bands": [{"name": "OLI_B4", "common_name": "red"}],
        "raster:bands": [facts | {"scale": 2.75e-5, "offset": -0.2}],
    }
    new = {
        "href": "r.tif",
        "bands": [
            facts | {"name": "OLI_B4", "eo:common_name": "red"}
            | {"raster:scale": 2.75e-5, "raster:offset": -0.2}
        ],
    }  # fmt: skip
    flat = facts | {"href": "r.tif", "raster:scale": 2.75e-5, "raster:offset": -0.2}
    for provider in map(read_provider, PROVIDERS):
        rows = [
            {"id": "i", "collection": "landsat-c2-l2", "assets": {"red": a}}
            for a in (old, new, flat)
        ]
        first, second, third = (provider.band(row, "red") for row in rows)
        assert first == second == third
        assert (first.scale, first.offset, first.nodata) == (2.75e-5, -0.2, 0.0)
        if provider is not CMR:
            assert provider.band(rows[0], "OLI_B4") == provider.band(rows[1], "OLI_B4") == first


def test_s2cloudless_by_the_name_that_publishers_give():
    row = {"id": "i", "assets": {"oa_s2cloudless_prob": {"href": "p.tif", "roles": ["data"]}}}
    assert [mask.rule.above for mask in GENERIC.masks(row)] == [0.4]


def test_who_signs():
    assert isinstance(EARTH.signer, RequesterPays)
    assert isinstance(PLANETARY.signer, SharedAccessSigner)
    assert isinstance(CMR.signer, BearerSigner)
    assert (MAXAR.signer, GENERIC.signer) == (None, None)
    other = replace(PLANETARY, signer=None)
    row = {"id": "i", "collection": "x", "assets": {"a": {"href": "https://h/a.tif"}}}
    assert other.band(row, "a").signer is None
