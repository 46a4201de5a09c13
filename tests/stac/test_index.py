from pathlib import Path

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import shapely

from rscontrast.errors import AssetError, GridError, InputError
from rscontrast.stac import read_items, search, write_items
from rscontrast.stac.index import item_crs, item_dicts, items_frame, native_geobox
from tests.world import grid


def plain(item):
    """What a JSON reader sees: tuples are lists."""
    if isinstance(item, dict):
        return {key: plain(value) for key, value in item.items()}
    return [plain(value) for value in item] if isinstance(item, list | tuple) else item


@pytest.fixture(scope="module")
def truth(sample_catalog):
    dicts = {}
    for item in pystac.Catalog.from_file(sample_catalog).get_items(recursive=True):
        item.make_asset_hrefs_absolute()
        dicts[item.id] = plain(item.to_dict(transform_hrefs=False))
    return dicts


def test_item_dicts_are_the_items(sample_catalog, truth):
    for item in item_dicts(search(sample_catalog)):
        expected = truth[item["id"]]
        assert item | {"links": []} == expected | {"links": []}
        # pystac leaves some hrefs as they stand in the file; ours hold wherever they are read.
        base = Path(next(link["href"] for link in expected["links"] if link["rel"] == "self"))
        hrefs = {(x["rel"], str((base.parent / x["href"]).resolve())) for x in expected["links"]}
        assert {(link["rel"], link["href"]) for link in item["links"]} == hrefs


def test_geoparquet_round_trip_keeps_the_items(sample_catalog, truth, tmp_path):
    path = tmp_path / "deep" / "items.parquet"
    frame = search(sample_catalog)
    write_items(frame, path)
    again = read_items(path)
    assert again["id"].tolist() == frame["id"].tolist()
    assert [p.name for p in path.parent.iterdir()] == ["items.parquet"]
    for item in map(plain, item_dicts(again)):
        expected = truth[item["id"]]
        assert item["assets"] == expected["assets"]
        assert item["geometry"] == expected["geometry"]
        assert item["properties"] == expected["properties"]
        assert item["bbox"] == pytest.approx(expected["bbox"])
        assert {k: item[k] for k in ("id", "collection", "stac_version")} == {
            k: expected[k] for k in ("id", "collection", "stac_version")
        }


def test_geopandas_reads_the_file_too(sample_items, tmp_path):
    import geopandas as gpd

    write_items(sample_items, tmp_path / "i.parquet")
    other = gpd.read_parquet(tmp_path / "i.parquet")
    assert sorted(other["id"]) == sorted(sample_items["id"])
    assert other.crs.equals("OGC:CRS84") or other.crs == "EPSG:4326"


def test_reading_what_is_no_stac_geoparquet(tmp_path):
    missing, text, table = (tmp_path / n for n in ("no.parquet", "text.parquet", "t.parquet"))
    text.write_text("text")
    pd.DataFrame({"a": [1]}).to_parquet(table)
    for path in (missing, text, table):
        with pytest.raises(InputError, match=path.name):
            read_items(path)


def test_native_geobox_from_metadata_equals_that_of_the_file(sample_items):
    for row in sample_items.iloc[::7].to_dict("records"):
        box = native_geobox(row, "red")
        with rasterio.open(row["assets"]["red"]["href"]) as raster:
            assert box.shape == raster.shape
            assert np.allclose(box.transform, raster.transform)
            assert box.crs == raster.crs.to_wkt()


@pytest.mark.parametrize("change", ["epsg", "asset", "none"])
def test_native_geobox_from_each_place_that_can_hold_it(world, change):
    box = grid(shape=(20, 30))
    item = world.item("a", box, with_grid=change != "none")
    if change == "epsg":
        item.properties["proj:epsg"] = int(item.properties.pop("proj:code").split(":")[1])
    if change == "asset":
        for key in ("proj:code", "proj:shape", "proj:transform"):
            item.assets["x"].extra_fields[key] = item.properties.pop(key)
    row = search(world.catalog()).to_dict("records")[0]
    assert native_geobox(row, "x") == box


def test_native_geobox_without_metadata_and_file(world):
    world.item("a", grid(), with_grid=False)
    row = search(world.catalog()).to_dict("records")[0]
    (world.folder / "a" / "x.tif").unlink()
    with pytest.raises(AssetError, match="item a, asset x"):
        native_geobox(row, "x")


def test_native_geobox_of_an_old_item_in_a_frame_with_new_ones(world):
    """Each row has all columns of the frame; the empty ones are NaN."""
    boxes = {"new": grid(), "old": grid("EPSG:32631")}
    items = {name: world.item(name, box) for name, box in boxes.items()}
    items["old"].properties["proj:epsg"] = int(items["old"].properties.pop("proj:code")[5:])
    for row in search(world.catalog()).to_dict("records"):
        assert native_geobox(row, "x") == boxes[row["id"]]
        assert item_crs(row) == str(boxes[row["id"]].crs)


def feature(geometry, name="a", **properties):
    when = {"datetime": "2022-01-01T00:00:00Z"}
    return {"id": name, "geometry": geometry, "properties": when | properties, "assets": {}}


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        "text",
        {},
        {"type": "Polygon"},
        {"type": "Blob", "coordinates": []},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[0, 1]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
        {"type": "Polygon", "coordinates": [[["a", 0], [1, 1], [1, 0], ["a", 0]]]},
    ],
)
def test_malformed_geometry_names_the_item(geometry):
    with pytest.raises(InputError, match="geometry of item bad: got"):
        items_frame([feature(geometry, "bad")])


def test_footprint_that_crosses_itself_is_repaired_with_a_warning():
    bow = [[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]
    with pytest.warns(UserWarning, match="item bow: Self-intersection.*repaired"):
        frame = items_frame([feature({"type": "Polygon", "coordinates": [bow]}, "bow")])
    repaired = frame.geometry[0]
    assert repaired.is_valid
    triangles = shapely.MultiPolygon(
        [shapely.Polygon([(0, 0), (1, 1), (0, 2)]), shapely.Polygon([(2, 0), (1, 1), (2, 2)])]
    )
    assert repaired.equals(triangles)


def test_properties_of_mixed_types_are_named(tmp_path):
    square = shapely.geometry.mapping(shapely.box(0, 0, 1, 1))
    items = [feature(square, "a", orbit=3), feature(square, "b", orbit="three")]
    with pytest.raises(InputError, match=r"got 'orbit'; allowed: .* one type"):
        write_items(items_frame(items), tmp_path / "i.parquet")
    assert not list(tmp_path.iterdir())


def test_an_unknown_crs_is_named(sample_items):
    row = sample_items.iloc[0].to_dict()
    row["proj:code"] = "EPSG:99999999"
    row["assets"] = {"blue": {"href": row["assets"]["blue"]["href"]}}
    with pytest.raises(GridError, match=r"asset blue: no CRS is 'EPSG:99999999'"):
        native_geobox(row, "blue")
