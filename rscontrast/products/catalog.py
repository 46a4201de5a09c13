"""The STAC catalog of a run: one Item a job, a Collection with their extents, a Catalog on top.

Nothing in it depends on when it was written: the same results give the same bytes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import rasterio
from pyproj import CRS
from rasterio.errors import RasterioError
from shapely.geometry import mapping as to_geojson

import rscontrast
from rscontrast.atomic import write_text
from rscontrast.errors import AssetError
from rscontrast.io.grid import crs_wkt
from rscontrast.mapping.job import Item, Settings
from rscontrast.products.done import Done
from rscontrast.report.palette import class_palette

VERSION = "1.1.0"
COLLECTION = "maps"
LINEAGE = {
    True: "Classes of what changed between scenes before and after, and their probabilities.",
    False: "Features of an encoder, of scenes after.",
}
ITEMS = "items"
EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in (
        "projection/v2.0.0", "raster/v2.0.0", "classification/v2.0.0", "processing/v1.2.0",
        "file/v2.1.0",
    )
)  # fmt: skip
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
PARQUET = "application/vnd.apache.parquet"
GEOJSON, JSON, PNG = "application/geo+json", "application/json", "image/png"

type Fields = dict[str, Any]


def write_catalog(
    folder: Path,
    jobs: Sequence[Done],
    settings: Settings,
    pictures: Mapping[str, Sequence[str]],
    assets: Mapping[str, Fields],
) -> set[Path]:
    """Write the items, then the collection, then the catalog, each whole or not at all.

    Args:
        folder: of the run.
        jobs: that are done.
        settings: how they were mapped.
        pictures: names of the quicklooks of each job, relative to ``folder``: map, pre, post.
        assets: of the collection: its mosaic, polygons, preview.

    Returns:
        the items' files.

    Raises:
        AssetError: a map cannot be read.
        WriteError: the disk does not take it.
    """
    written, items = set(), []
    for one in jobs:
        item = make_item(folder, one, settings, pictures.get(one.job.id, ()))
        path = folder / ITEMS / f"{one.job.id}.json"
        _write(path, item)
        written.add(path)
        items.append(item)
    _write(folder / "collection.json", make_collection(items, assets))
    _write(folder / "catalog.json", _catalog())
    return written


def make_item(folder: Path, one: Done, settings: Settings, pictures: Sequence[str]) -> Fields:
    """Describe a job's results as a STAC Item; links within the run are relative."""
    job, model = one.job, model_item(settings.checkpoint)
    times = [sorted(_time(item["datetime"]) for item in date) for date in (job.pre, job.post)]
    properties = {
        "datetime": _time(job.post[0]["datetime"]),
        "start_datetime": times[0][0],
        "end_datetime": times[1][-1],
        **_crs_field(one),
        "proj:shape": list(job.geobox.shape),
        "proj:transform": list(job.geobox.transform)[:6],
        "processing:level": "L4",
        "processing:lineage": LINEAGE[one.file("classes.tif") is not None],
        "processing:software": {"rscontrast": rscontrast.__version__},
        "rscontrast:checkpoint": Path(settings.checkpoint).name,
        "rscontrast:km2": one.result.km2,
        "rscontrast:valid_share": one.result.valid_share,
        "rscontrast:pre_ids": [item["id"] for item in job.pre],
        "rscontrast:post_ids": [item["id"] for item in job.post],
    }
    links = [
        _link("root", "../catalog.json", JSON),
        _link("parent", "../collection.json", JSON),
        _link("collection", "../collection.json", JSON),
        *_sources((*job.pre, *job.post)),
    ]
    expression = {}
    if model is not None:
        # The MLM extension's README, "Relation types", and its best practices, "Processing".
        name = json.loads(model.read_text(encoding="utf-8"))["properties"].get("mlm:name")
        href = model.resolve().as_posix()
        said = {"mlm:name": name or model.stem, "processing:level": "L4"}
        links.append({**_link("derived_from", href, GEOJSON), "title": "The model", **said})
        expression = {"processing:expression": {"format": "stac-mlm", "expression": href}}
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": list(EXTENSIONS),
        "id": job.id,
        "collection": COLLECTION,
        "geometry": to_geojson(one.ground),
        "bbox": list(one.ground.bounds),
        "properties": properties,
        "links": links,
        "assets": {**_rasters(folder, one, expression), **_quicklooks(pictures)},
    }


def model_item(checkpoint: str) -> Path | None:
    """The STAC Item beside a checkpoint, NAME.item.json; None: there is none."""
    path = Path(checkpoint).with_suffix(".item.json")
    return path if path.is_file() else None


def _rasters(folder: Path, one: Done, fields: Fields) -> dict[str, Fields]:
    assets = {}
    for name in sorted(one.result.files):
        path = folder / name
        if path.suffix != ".tif":
            continue
        asset = {
            "href": f"../{name}",
            "type": COG,
            "roles": ["data"],
            **_raster_fields(path),
            "file:size": path.stat().st_size,
            # A multihash: sha2-256 (0x12) of 32 (0x20) bytes.
            "file:checksum": f"1220{one.result.files[name]}",
            **fields,
        }
        if path.stem == "classes":
            asset["classification:classes"] = _classes(folder, one)
        assets[path.stem] = asset
    return assets


def _raster_fields(path: Path) -> Fields:
    try:
        with rasterio.open(path) as source:
            facts = zip(source.descriptions, source.dtypes, source.nodatavals, source.scales,
                        strict=True)  # fmt: skip
            bands = []
            for number, (name, dtype, nodata, scale) in enumerate(facts, 1):
                band: Fields = {"name": name or f"band {number}", "data_type": dtype}
                if nodata is not None:
                    band["nodata"] = int(nodata) if float(nodata).is_integer() else str(nodata)
                if scale != 1:
                    band["raster:scale"] = scale
                bands.append(band)
            place = {"proj:shape": list(source.shape), "proj:transform": list(source.transform)[:6]}
            return {"bands": bands, **place}
    except RasterioError as error:
        raise AssetError(f"{path}: cannot be read ({error})") from error


def class_names(folder: Path, jobs: Iterable[Done]) -> tuple[str, ...]:
    """Names of the classes: what the first bands of the probabilities are called.

    Raises:
        AssetError: a map cannot be read.
    """
    for one in jobs:
        name = one.file("probabilities.tif")
        if name is not None:
            names = [band["name"] for band in _raster_fields(folder / name)["bands"]]
            return tuple(names[: len(one.result.class_pixels) or None])
        if one.result.class_pixels:
            return tuple(f"class {n}" for n in range(len(one.result.class_pixels)))
    return ()


def _classes(folder: Path, one: Done) -> list[Fields]:
    names = class_names(folder, [one])
    counts = one.result.class_pixels or (0,) * len(names)
    total = max(1, sum(counts))
    return [
        {"value": value, "name": slug(name), "title": name,
         "color_hint": colour.removeprefix("#").upper(),
         "percentage": round(100 * counts[value] / total, 4)}
        for value, (name, colour) in enumerate(class_palette(names))
    ]  # fmt: skip


def slug(name: str) -> str:
    """Names of the classification extension hold letters, digits, - and _ only."""
    return "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "-" for c in name)


def _quicklooks(names: Sequence[str]) -> dict[str, Fields]:
    keys = (("quicklook", "The map"), ("quicklook-pre", "Before"), ("quicklook-post", "After"))
    return {
        key: {"href": f"../{name}", "type": PNG, "title": title,
              "roles": ["thumbnail" if key == "quicklook" else "overview"]}
        for (key, title), name in zip(keys, names, strict=False)
    }  # fmt: skip


def make_collection(items: Sequence[Fields], assets: Mapping[str, Fields]) -> Fields:
    """Describe all items together."""
    boxes = [item["bbox"] for item in items]
    first = [item["properties"]["start_datetime"] for item in items]
    last = [item["properties"]["end_datetime"] for item in items]
    kinds: dict[str, Fields] = {}
    for item in items:
        for key, asset in item["assets"].items():
            told = {k: v for k, v in asset.items() if k in ("type", "roles", "title", "bands")}
            kinds.setdefault(key, told)
    ends = [min(b[0] for b in boxes), min(b[1] for b in boxes)] if boxes else [-180.0, -90.0]
    ends += [max(b[2] for b in boxes), max(b[3] for b in boxes)] if boxes else [180.0, 90.0]
    codes = {item["properties"].get("proj:code") for item in items} - {None}
    return {
        "type": "Collection",
        "stac_version": VERSION,
        "stac_extensions": [EXTENSIONS[0]],
        "id": COLLECTION,
        "title": "Maps of what changed between two dates",
        "description": "Classes and their probabilities, a tile an item.",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [ends]},
            "temporal": {"interval": [[min(first, default=None), max(last, default=None)]]},
        },
        "summaries": {"proj:code": sorted(codes)} if codes else {},
        "item_assets": kinds,
        "assets": dict(assets),
        "links": [
            _link("root", "./catalog.json", JSON),
            _link("parent", "./catalog.json", JSON),
            *(_link("item", f"./{ITEMS}/{item['id']}.json", GEOJSON) for item in items),
        ],
    }


def _catalog() -> Fields:
    return {
        "type": "Catalog",
        "stac_version": VERSION,
        "id": "rscontrast-maps",
        "description": "Maps of what changed between two dates.",
        "links": [_link("root", "./catalog.json", JSON), _link("child", "./collection.json", JSON)],
    }


def _sources(items: Iterable[Item]) -> list[Fields]:
    """Links to the scenes; one of an ItemCollection may lie nowhere: its id is a property."""
    found = {}
    for item in items:
        for link in item.get("links") or ():
            if link["rel"] == "self":
                found[link["href"]] = _link("derived_from", link["href"], GEOJSON)
    return list(found.values())


def _link(rel: str, href: str, media: str) -> Fields:
    return {"rel": rel, "href": href, "type": media}


def _crs_field(one: Done) -> Fields:
    wkt = crs_wkt(one.job.geobox)
    code = CRS.from_wkt(wkt).to_authority()
    return {"proj:code": ":".join(code)} if code else {"proj:wkt2": wkt}


def _time(when: Any) -> str:
    moment: datetime = when.to_pydatetime() if hasattr(when, "to_pydatetime") else when
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(path: Path, thing: Fields) -> None:
    write_text(path, json.dumps(thing, indent=2) + "\n")
