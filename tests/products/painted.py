"""A run's folder without a model: maps whose pixels are a function of where they lie.

One large disc lies across tiles and across the border of two UTM zones; a cloud is no data.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from rscontrast.io import CogWriter
from rscontrast.mapping.job import Job, Result, Settings
from rscontrast.mapping.planned import Plan
from rscontrast.mapping.tiles import user_lattice, utm

NAMES = ("background", "no-damage", "minor-damage", "major-damage", "destroyed")
EAST, SOUTH, NORTH = 12.0, 45.995, 46.005
"""Where zones 32 and 33 meet, and the ground that is mapped."""
DISC = (12.0005, 46.0, 200.0)
"""Longitude, latitude and radius in metres, of ground that is destroyed."""
HUT = (12.006, 46.002, 40.0)
"""A building without damage, in zone 33."""
CLOUD = (11.994, 46.001, 90.0)
"""Ground that was not seen."""


def metres(longitude, latitude, place):
    """Distance from a place, plane enough here."""
    x = (longitude - place[0]) * 111_195 * np.cos(np.radians(46.0))
    return np.hypot(x, (latitude - place[1]) * 111_195)


def truth(longitude, latitude):
    """Class of each place; 255 under the cloud."""
    found = np.where(metres(longitude, latitude, DISC) < DISC[2], 4, 0)
    found = np.where(metres(longitude, latitude, HUT) < HUT[2], 1, found)
    return np.where(metres(longitude, latitude, CLOUD) < CLOUD[2], 255, found)


def degrees(geobox):
    """Longitude and latitude of pixel centres."""
    rows, cols = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
    x, y = (
        geobox.transform.c + cols * geobox.transform.a,
        geobox.transform.f - rows * abs(geobox.transform.e),
    )
    return Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(x, y)


def item(name, day):
    """An item that lies nowhere: its scene cannot be read."""
    return {
        "id": name, "collection": "scenes", "datetime": pd.Timestamp(day, tz="UTC"),
        "geometry": shapely.box(11.9, 45.9, 12.1, 46.1), "platform": "made-up",
        "assets": {b: {"href": f"nowhere/{name}_{b}.tif"} for b in ("red", "green", "blue")},
        "links": [{"rel": "self", "href": f"https://example.com/{name}.json"}],
    }  # fmt: skip


def tiles(crs=None, west=11.99, east=12.01, res=5.0, size=128, south=SOUTH, north=NORTH):
    area = shapely.box(west, south, east, north)
    lattices = utm(area, res, size) if crs is None else [user_lattice(crs, res, size, (0.0, 0.0))]
    return [tile for lattice in lattices for tile in lattice.tiles(area, area)]


def plan_of(found, pre=None, post=None):
    pre, post = pre or (item("a", "2022-05-01"),), post or (item("b", "2022-09-01"),)
    jobs = tuple(Job(tile.id, tile.geobox, pre, post, tile.aoi, 0) for tile in found)
    return Plan(jobs, (), {}, {tile.id: tile.ground for tile in found}, {}, {})


def write_maps(folder, plan, said=truth, *, unsure=False):
    """Write each job's maps; returns what came of them."""
    from rasterio.features import geometry_mask

    results = []
    for job in plan.jobs:
        classes = said(*degrees(job.geobox)).astype(np.uint8)
        if job.aoi is not None:
            classes[geometry_mask([job.aoi], job.geobox.shape, job.geobox.transform)] = 255
        chances = np.full((len(NAMES), *classes.shape), 4, np.uint8)
        np.put_along_axis(chances, np.minimum(classes, 4)[None], 238, axis=0)
        chances[:, classes == 255] = 255
        bands = NAMES
        if unsure:
            chances = np.concatenate([chances, np.where(classes == 255, 255, 100)[None]])
            chances, bands = chances.astype(np.uint8), (*NAMES, "uncertainty")
        files = {}
        for name, pixels, shown, scale in (
            ("classes", classes[None], ["class"], 1.0),
            ("probabilities", chances, bands, 1 / 254),
        ):
            path = Path(folder, job.id, f"{name}.tif")
            with CogWriter(
                path, job.geobox, dtype="uint8", nodata=255, bands=shown, scale=scale
            ) as file:
                file.write(pixels, 0, 0)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            files[f"{job.id}/{name}.tif"] = digest
        counts = np.bincount(classes.ravel(), minlength=256)[: len(NAMES)]
        km2 = counts.sum() * 25 / 1e6
        share = counts.sum() / classes.size
        results.append(Result(job.id, files, km2, share, 0.1, tuple(map(int, counts))))
    return results


def settings(folder):
    """A checkpoint with its item beside it."""
    path = Path(folder, "model.pt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("weights")
    described = {"type": "Feature", "properties": {"mlm:name": "small"}}
    path.with_suffix(".item.json").write_text(json.dumps(described))
    return Settings(checkpoint=str(path))


def tree(folder):
    """Content of every file, hidden ones included."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def cells(geobox, side=16):
    """The same ground in larger pixels."""
    shape = tuple(size // side for size in geobox.shape)
    return GeoBox(shape, geobox.transform @ Affine.scale(side), geobox.crs)


def write_embeddings(folder, plan, cell=16):
    """Each job's raster of embeddings, of which the first number is the class at the middle."""
    results = []
    for job in plan.jobs:
        grid = cells(job.geobox, cell)
        classes = truth(*degrees(grid))
        vectors = np.zeros((4, *grid.shape), np.int8)
        vectors[0], vectors[1] = np.where(classes == 4, 127, 0), np.where(classes == 1, 127, 0)
        vectors[2], vectors[3] = np.where(classes == 0, 127, 0), 5
        vectors[:, classes == 255] = -128
        path, name = Path(folder, job.id, "embedding.tif"), f"{job.id}/embedding.tif"
        bands = [f"feature {n}" for n in range(4)]
        with CogWriter(path, grid, dtype="int8", nodata=-128, bands=bands) as file:
            file.write(vectors, 0, 0)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        results.append(Result(job.id, {name: digest}, 0.1, 1.0, 0.1, ()))
    return results
