"""The catalog is valid STAC 1.1, and what reads STAC reads it."""

import hashlib
import json
from pathlib import Path

import geopandas as gpd
import pystac
import pytest
import rasterio
from pystac.validation import validate_dict

from rscontrast.products.catalog import model_item, slug
from rscontrast.stac import search
from tests.products.painted import NAMES


def things(folder):
    return [folder / "catalog.json", folder / "collection.json", *folder.glob("items/*.json")]


def test_all_of_it_is_valid(finished):
    for path in things(finished):
        assert validate_dict(json.loads(path.read_text()), extensions=[])


def test_every_link_leads_somewhere(finished):
    for path in things(finished):
        thing = json.loads(path.read_text())
        hrefs = [link["href"] for link in thing["links"]]
        hrefs += [asset["href"] for asset in thing.get("assets", {}).values()]
        assert len(hrefs) > 1
        for href in hrefs:
            assert href.startswith("https://example.com/") or (path.parent / href).is_file(), href


def test_search_reads_it(finished, plan):
    items = search(finished / "catalog.json", collections=["maps"])
    assert sorted(items["id"]) == sorted(job.id for job in plan.jobs)
    assert len(search(finished / "catalog.json", aoi=(12.0075, 45.999, 12.009, 46.001))) == 1
    assert search(finished / "catalog.json", toi="2022-09").shape[0] == len(items)


def test_pystac_reads_it_and_rasterio_opens_it(finished, plan):
    catalog = pystac.Catalog.from_file(str(finished / "catalog.json"))
    items = {item.id: item for item in catalog.get_items(recursive=True)}
    assert set(items) == {job.id for job in plan.jobs}
    for job in plan.jobs:
        item = items[job.id]
        asset = item.assets["probabilities"]
        with rasterio.open(asset.get_absolute_href()) as file:
            assert file.crs.to_epsg() == int(item.properties["proj:code"].split(":")[1])
            assert list(file.shape) == item.properties["proj:shape"]
            assert list(file.transform)[:6] == item.properties["proj:transform"]
            assert [band["name"] for band in asset.extra_fields["bands"]] == list(NAMES)
        text = (finished / job.id / "probabilities.tif").read_bytes()
        assert asset.extra_fields["file:checksum"] == f"1220{hashlib.sha256(text).hexdigest()}"
        assert asset.extra_fields["file:size"] == len(text)


@pytest.mark.filterwarnings("ignore:Server does not advertise", "ignore:Falling back to pystac")
def test_pystac_client_reads_it(finished, plan):
    client = pytest.importorskip("pystac_client")
    catalog = client.Client.open(str(finished / "catalog.json"))
    assert len(list(catalog.get_items(recursive=True))) == len(plan.jobs)


def test_items_come_from_all_scenes_and_the_model(finished, plan, model):
    path = finished / "items" / f"{plan.jobs[0].id}.json"
    item = json.loads(path.read_text())
    from_ = [link for link in item["links"] if link["rel"] == "derived_from"]
    assert [link["href"] for link in from_[:2]] == [
        "https://example.com/a.json",
        "https://example.com/b.json",
    ]
    (own,) = (link for link in from_ if "mlm:name" in link)
    assert Path(own["href"]) == model_item(model.checkpoint).resolve()
    assert own["mlm:name"] == "small"
    said = item["assets"]["classes"]["processing:expression"]
    assert said == {"format": "stac-mlm", "expression": own["href"]}
    assert item["properties"]["start_datetime"] == "2022-05-01T00:00:00Z"
    assert item["properties"]["datetime"] == "2022-09-01T00:00:00Z"


def test_classes_have_names_colours_and_shares(finished, plan):
    item = json.loads((finished / "items" / f"{plan.jobs[0].id}.json").read_text())
    classes = item["assets"]["classes"]["classification:classes"]
    assert [one["title"] for one in classes] == list(NAMES)
    assert sum(one["percentage"] for one in classes) == pytest.approx(100, abs=1e-3)
    assert all(len(one["color_hint"]) == 6 for one in classes)
    assert slug("no damage (né)") == "no-damage--n--"


def test_the_collection_spans_its_items(finished):
    made = pystac.Collection.from_file(str(finished / "collection.json"))
    xmin, ymin, xmax, ymax = made.extent.spatial.bboxes[0]
    assert (xmin, ymin) == pytest.approx((11.99, 45.995), abs=1e-4)
    assert (xmax, ymax) == pytest.approx((12.01, 46.005), abs=1e-4)
    first, last = made.extent.temporal.intervals[0]
    assert (first.month, last.month) == (5, 9)
    assert {"classes", "probabilities", "polygons", "buildings", "preview"} <= set(made.assets)
    frame = gpd.read_parquet(made.assets["polygons"].get_absolute_href())
    assert set(frame["class_name"]) == {"destroyed", "no-damage"}
