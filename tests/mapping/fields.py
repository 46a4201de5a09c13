"""Scenes of a smooth field of the ground, the same in every CRS, and models small enough to test.

Reflectance is a sum of long waves of UTM zone 32's coordinates: what a file, a zone or a tile
shows of a place is the same to a rounding.
"""

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from torch import nn

from rscontrast.mapping.blend import Window
from rscontrast.mapping.job import Job
from rscontrast.mapping.model import Model
from rscontrast.models.damage import PairSegmenter
from rscontrast.types import SensorContract

RES = 10.0
BANDS = ("red", "nir")
CLASSES = ("background", "no damage", "destroyed")
CONTRACT = SensorContract(BANDS, RES, (0.3, 0.3), (0.1, 0.1))
MIDDLE = (731_000.0, 5_100_000.0)
"""In zone 32, close to its eastern border; on the lattice."""


class Convolutions(PairSegmenter):
    """Three convolutions of 5 x 5: a pixel sees 6 to each side."""

    reach = 6

    def __init__(self, seed=0):
        super().__init__({"classes": len(CLASSES), "in_channels": len(BANDS), "heads": "one"})
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Conv2d(4, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 8, 5, padding=2), nn.Tanh(),
            nn.Conv2d(8, 3, 5, padding=2),
        )  # fmt: skip
        self.layers[-1].weight.data.mul_(6)

    def classify(self, pair):
        return self.layers(pair.flatten(1, 2))


def model(size=64, overlap=32, window="cosine", module=None, **more):
    module = (module or Convolutions()).eval().requires_grad_(False)
    grid = Window(size, overlap, window)
    return Model(module, CONTRACT, CLASSES, grid, 1, len(CLASSES), torch.device("cpu"), **more)


def reflectance(x, y, band, post):
    """[H, W] at places in zone 32."""
    far = 2 * np.pi / 2500
    wave = np.sin(far * (x + 300 * band)) * np.cos(far * 0.7 * (y - 500 * post))
    return 0.3 + 0.15 * wave + 0.05 * np.sin(far * 0.3 * (x + y) + post)


def scene(folder, name, *, epsg=32632, corner=MIDDLE, shape=(200, 200), holes=()):
    """Write a scene (upper left corner in its own CRS), and tell its item."""
    path, post = folder / f"{name}.tif", "post" in name
    transform = Affine.translation(*corner) @ Affine.scale(RES, -RES)
    cols, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x, y = transform @ (cols, rows)
    x, y = Transformer.from_crs(epsg, 32632, always_xy=True).transform(x, y)
    pixels = np.stack([np.rint(1e4 * reflectance(x, y, b, post)) for b in range(len(BANDS))])
    for hole in holes:
        pixels[(slice(None), *hole)] = 0
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=len(BANDS),
        dtype="uint16", nodata=0, crs=f"EPSG:{epsg}", transform=transform, tiled=True,
        blockxsize=64, blockysize=64, compress="deflate",
    ) as raster:  # fmt: skip
        raster.write(pixels.astype("uint16"))
    box = GeoBox(shape, transform, f"EPSG:{epsg}")
    return item(name, path, box)


def item(name, path, box):
    outline = shapely.geometry.shape(box.extent.to_crs("EPSG:4326").json)
    bands = [{"name": b, "nodata": 0, "raster:scale": 1e-4, "raster:offset": 0.0} for b in BANDS]
    asset = {"href": str(path), "type": "image/tiff; application=geotiff", "roles": ["data"]}
    frame = gpd.GeoDataFrame(
        {
            "id": [name],
            "assets": [{"image": asset | {"bands": bands}}],
            "collection": ["scenes"],
            "datetime": [pd.Timestamp("2023-09-01" if "post" in name else "2023-06-01", tz="UTC")],
        },
        geometry=[outline.buffer(0.01)],
        crs="EPSG:4326",
    )
    return frame.to_dict("records")[0]


def job(pre, post, *, epsg=32632, corner=MIDDLE, shape=(200, 200), name="tile", aoi=None):
    transform = Affine.translation(*corner) @ Affine.scale(RES, -RES)
    return Job(name, GeoBox(shape, transform, f"EPSG:{epsg}"), tuple(pre), tuple(post), aoi, 64)


def moved(epsg, x, y):
    """A place of zone 32 in another zone, on its lattice."""
    there = Transformer.from_crs(32632, epsg, always_xy=True).transform(x, y)
    return tuple(round(v / RES) * RES for v in there)


def truth(module, box):
    """Probabilities of a grid, seen as a whole, without rounding."""
    cols, rows = np.meshgrid(np.arange(box.shape[1]) + 0.5, np.arange(box.shape[0]) + 0.5)
    x, y = box.transform @ (cols, rows)
    if box.crs.to_epsg() != 32632:
        x, y = Transformer.from_crs(box.crs.to_epsg(), 32632, always_xy=True).transform(x, y)
    dates = [[reflectance(x, y, b, post) for b in range(len(BANDS))] for post in (False, True)]
    pair = (torch.tensor(np.array(dates), dtype=torch.float32)[None] - 0.3) / 0.1
    with torch.inference_mode():
        return module.probabilities(module(pair))[0].numpy()
