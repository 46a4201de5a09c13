"""Map every pair: two COGs and a STAC Item each, and a catalog over what is finished."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pystac
from pyproj import CRS
from shapely.geometry import mapping as to_geojson
from tqdm import tqdm

import rscontrast
from rscontrast.atomic import write_text
from rscontrast.errors import InputError, whole
from rscontrast.io import CogWriter
from rscontrast.io.grid import crs_wkt, footprint
from rscontrast.mapping.native import PairJob, plan, tiles
from rscontrast.mapping.tilewise import Predictor
from rscontrast.models.checkpoint import load_segmenter
from rscontrast.stac.conditions.area import AOI, read_aoi
from rscontrast.stac.pairing.file import SomePairs
from rscontrast.types import IGNORE, PathOrStr

STEPS = 254
"""Probability 1 as a pixel of the probability COG; 255 is nodata."""

EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
]


def map_pairs(
    items: gpd.GeoDataFrame,
    pairs: SomePairs,
    checkpoint: PathOrStr,
    out: PathOrStr,
    *,
    aoi: AOI | None = None,
    patch_size: int = 128,
    overlap: int = 32,
    tile_size: int = 1024,
    batch_size: int = 16,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Write a class map and class probabilities for each pair, and a STAC catalog of them.

    A result appears whole, and the catalog lists a result when it is finished; what was finished
    before an error or Ctrl-C stays listed and usable.

    Args:
        items: of :func:`rscontrast.stac.search`.
        pairs: of :func:`rscontrast.stac.pair_items`; each becomes one result.
        checkpoint: of a segmenter.
        out: folder of the results.
        aoi: area of interest, see :func:`rscontrast.stac.conditions.area.read_aoi`; None:
            everything.
        patch_size: side of the patches that the segmenter sees, pixels, a multiple of 32.
        overlap: pixels that neighbouring patches share and are blended over.
        tile_size: side of what is held in memory at a time, pixels.
        batch_size: patches at a time.
        device: "auto", "cpu" or "gpu".
        progress: show a bar.

    Returns:
        path of the catalog: ``out/catalog.json``.

    Raises:
        InputError: an argument out of range.
        CheckpointError: ``checkpoint`` is no segmenter of ours.
        BandError: an item lacks a band of the checkpoint.
        AssetError: a file cannot be read.
        WriteError: the disk does not take a result.
    """
    whole("tile_size", tile_size)
    segmenter = load_segmenter(checkpoint)
    predictor = Predictor(
        segmenter, patch_size=patch_size, overlap=overlap, batch_size=batch_size, device=device
    )
    area = None if aoi is None else read_aoi(aoi)
    jobs = plan(items, pairs, segmenter.contract.bands[0], area)
    if len({job.name for job in jobs}) < len(jobs):
        raise InputError("pairs", "a pair twice", "each pair once")
    for job in jobs:
        predictor.require_res(job)
    catalog = Path(out) / "catalog.json"
    results = _listed(catalog)
    total = sum(1 for job in jobs for _ in tiles(job.geobox, tile_size))
    with tqdm(total=total, desc="map", unit="tile", disable=not progress) as bar:
        for job in jobs:
            for _ in _write_rasters(job, predictor, catalog.parent / job.name, tile_size):
                bar.update()
            results[job.name] = _item(job, segmenter.class_names, str(checkpoint))
            _write_catalog(results, job.name, catalog)
    return catalog


def _write_rasters(
    job: PairJob, predictor: Predictor, folder: Path, tile_size: int
) -> Iterator[None]:
    """Write both COGs of a job, tile by tile; yields after each."""
    names = predictor.segmenter.class_names
    tags = {"pre": job.pre[0]["id"], "post": job.post[0]["id"]}
    common: dict[str, Any] = {"dtype": "uint8", "nodata": IGNORE, "tags": tags}
    with ExitStack() as stack:
        classes = stack.enter_context(
            CogWriter(folder / "classes.tif", job.geobox, bands=["class"], **common)
        )
        probabilities = stack.enter_context(
            CogWriter(
                folder / "probabilities.tif", job.geobox, bands=names, scale=1 / STEPS, **common
            )
        )
        for tile in tiles(job.geobox, tile_size):
            found = predictor.tile(job, tile)
            best = np.where(found.valid, found.probabilities.argmax(axis=0), IGNORE)
            steps = np.where(found.valid, np.rint(found.probabilities * STEPS), IGNORE)
            classes.write(best.astype(np.uint8)[None], tile.row, tile.col)
            probabilities.write(steps.astype(np.uint8), tile.row, tile.col)
            yield


def _item(job: PairJob, class_names: tuple[str, ...], checkpoint: str) -> pystac.Item:
    outline = footprint(job.geobox, "EPSG:4326")
    pre, post = (date[0]["datetime"].to_pydatetime() for date in (job.pre, job.post))
    item = pystac.Item(
        id=job.name,
        geometry=to_geojson(outline),
        bbox=list(outline.bounds),
        datetime=post,
        properties={
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "start_datetime": pre.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "end_datetime": post.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "processing:software": {"rscontrast": rscontrast.__version__},
            "rscontrast:checkpoint": Path(checkpoint).name,
            "rscontrast:pre_ids": [source["id"] for source in job.pre],
            "rscontrast:post_ids": [source["id"] for source in job.post],
            **_crs_field(job),
            "proj:shape": list(job.geobox.shape),
            "proj:transform": list(job.geobox.transform)[:6],
        },
        stac_extensions=EXTENSIONS,
    )
    classes = [{"value": i, "name": _slug(name)} for i, name in enumerate(class_names)]
    bands = [
        {"name": name, "data_type": "uint8", "nodata": IGNORE, "raster:scale": 1 / STEPS}
        for name in class_names
    ]
    item.add_asset("classes", _asset("classes.tif", {"classification:classes": classes}))
    item.add_asset("probabilities", _asset("probabilities.tif", {"bands": bands}))
    for source in (*job.pre, *job.post):
        href = next((x["href"] for x in source.get("links") or () if x["rel"] == "self"), None)
        if href is not None:  # an item of an ItemCollection may lie nowhere: its id is a property
            item.add_link(pystac.Link("derived_from", href, "application/geo+json"))
    return item


def _asset(href: str, fields: dict[str, Any]) -> pystac.Asset:
    fields = {"nodata": IGNORE, "data_type": "uint8", **fields}
    return pystac.Asset(
        f"./{href}", media_type=pystac.MediaType.COG, roles=["data"], extra_fields=fields
    )


def _slug(name: str) -> str:
    """Class names of the classification extension hold letters, digits, - and _ only."""
    return "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "-" for c in name)


def _crs_field(job: PairJob) -> dict[str, str]:
    code = CRS.from_wkt(crs_wkt(job.geobox)).to_authority()
    return {"proj:code": ":".join(code)} if code else {"proj:wkt2": crs_wkt(job.geobox)}


def _listed(catalog: Path) -> dict[str, pystac.Item]:
    """Results of earlier runs into the same folder, by id: they stay listed."""
    if not catalog.is_file():
        return {}
    return {item.id: item for item in pystac.Catalog.from_file(str(catalog)).get_items()}


def _write_catalog(results: dict[str, pystac.Item], latest: str, path: Path) -> None:
    """Write the latest item, then the catalog that lists all, each whole or not at all."""
    catalog = pystac.Catalog("rscontrast-maps", "Maps of what changed between two dates.")
    catalog.add_items([item.clone() for item in results.values()])
    catalog.normalize_hrefs(str(path.parent.resolve()))
    catalog.catalog_type = pystac.CatalogType.SELF_CONTAINED
    written = next(item for item in catalog.get_items() if item.id == latest)
    write_text(written.get_self_href() or "", _json(written))
    write_text(path, _json(catalog))


def _json(thing: pystac.Item | pystac.Catalog) -> str:
    return json.dumps(thing.to_dict(include_self_link=False), indent=2)
