"""The imagery of the loader's benchmark: COGs like Sentinel-2's, made by seed, and what is drawn.

Two tiles show the same ground, one in each of two UTM zones. A few dates of each are made; the
others are hard links to them. A link is a file of its own to every reader (their caches go by
name), so that patches of many dates do not find each other's blocks decoded.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
RES, BLOCK, PATCH = 10, 1024, 256
SCALE = 0.0001
MIDDLE = (731_000, 5_100_000)
"""In zone 32, metres: close to its eastern border."""
NOISE = 20
"""Digital numbers; with it deflate takes the files to 1/1.7."""
STEP = pd.Timedelta("10D")
"""Between the dates of a tile."""


@dataclass(frozen=True)
class World:
    """A folder of scenes; all that a reader has to know of it."""

    root: str
    """Folder, or the URL that serves it."""
    size: int
    """Side of a scene, pixels."""
    made: int
    """Dates with pixels of their own, of each tile."""
    dates: int
    """Dates of each tile."""
    seed: int
    noise: int = NOISE
    """Standard deviation, digital numbers; the default lets deflate do as with Sentinel-2."""
    north: int = 0
    """Metres by which the ground is moved."""

    def days(self, tile: str) -> list[str]:
        """Dates of a tile; those of the second tile follow all of the first."""
        first = pd.Timestamp("2020-01-01") + (tile == "T33") * self.dates * STEP
        return [f"{first + n * STEP:%Y%m%d}" for n in range(self.dates)]

    def epsg(self, tile: str) -> int:
        """Code of a tile's CRS."""
        return 32600 + int(tile[1:])

    def corner(self, tile: str) -> tuple[float, float]:
        """Upper left, on whole pixels."""
        move = Transformer.from_crs(32632, self.epsg(tile), always_xy=True)
        x, y = move.transform(MIDDLE[0], MIDDLE[1] + self.north)
        half = self.size * RES / 2
        return round((x - half) / RES) * RES, round((y + half) / RES) * RES

    def bounds(self, tile: str) -> tuple[float, float, float, float]:
        """Of a tile, in its CRS."""
        x, y = self.corner(tile)
        return x, y - self.size * RES, x + self.size * RES, y

    def href(self, tile: str, day: str, band: str) -> str:
        """File of a band."""
        return f"{self.root}/{tile}_{day}_{band}.tif"

    def common(self) -> shapely.Polygon:
        """Ground of both tiles, in zone 32."""
        move = Transformer.from_crs(self.epsg("T33"), self.epsg("T32"), always_xy=True)
        ring = shapely.segmentize(shapely.box(*self.bounds("T33")), 1000)
        other = shapely.transform(ring, lambda xy: np.column_stack(move.transform(*xy.T)))
        return shapely.box(*self.bounds("T32")) & other


def make_world(world: World, workers: int, tiles: tuple[str, ...] = ("T32", "T33")) -> None:
    """Write the scenes that are not there yet."""
    jobs = [
        (world, tile, number, band)
        for tile in tiles
        for number in range(world.made)
        for band in BANDS
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        list(pool.map(_make_scene, *zip(*jobs, strict=True)))


def _make_scene(world: World, tile: str, number: int, band: str) -> None:
    days = world.days(tile)
    first = Path(world.href(tile, days[number], band))
    if not first.exists():
        seed = (world.seed, int(tile[1:]), number, list(BANDS).index(band))
        pixels = texture(world.size, world.noise, np.random.default_rng(seed))
        write_cog(first, pixels, world, tile)
    for day in days[number + world.made :: world.made]:
        name = Path(world.href(tile, day, band))
        if not name.exists():
            os.link(first, name)


def texture(size: int, noise: int, random):
    """Relief, parcels of some pixels, and noise [size, size]."""

    def normal(count: int):
        return random.standard_normal((count, count), dtype=np.float32)

    hats = np.clip(1 - abs(np.linspace(0, 8, size)[:, None] - np.arange(9)), 0, 1).astype("f4")
    image = 1800 + 500 * (hats @ normal(9) @ hats.T)
    parcels = 300 * normal(-(-size // 16)).repeat(16, axis=0).repeat(16, axis=1)
    image += parcels[:size, :size]
    image += noise * normal(size)
    return np.clip(image, 1, 10_000).astype(np.uint16)


def write_cog(path: Path, pixels, world: World, tile: str) -> None:
    part = path.with_suffix(".part")
    with rasterio.open(
        part,
        "w",
        driver="COG",
        width=pixels.shape[1],
        height=pixels.shape[0],
        count=1,
        dtype=pixels.dtype,
        nodata=0,
        crs=f"EPSG:{world.epsg(tile)}",
        transform=Affine.translation(*world.corner(tile)) @ Affine.scale(RES, -RES),
        compress="deflate",
        predictor=2,
        blocksize=BLOCK,
    ) as raster:
        raster.write(pixels, 1)
    part.rename(path)


def make_items(world: World, scenes: list[tuple[str, str]]) -> gpd.GeoDataFrame:
    """Items of scenes (tile, day), complete, so that no file has to be opened for an index."""
    from rscontrast.stac.items.frame import complete

    tiles = [tile for tile, _ in scenes]
    outline = {tile: _lonlat(world, tile) for tile in set(tiles)}
    facts = {tile: _grid_facts(world, tile) for tile in set(tiles)}
    frame = pd.DataFrame(
        {
            "id": [f"{tile}_{day}" for tile, day in scenes],
            "bbox": [list(outline[tile].bounds) for tile in tiles],
            "assets": [_assets(world, tile, day) for tile, day in scenes],
            "collection": "scenes",
            "datetime": pd.to_datetime([f"{day}T103000" for _, day in scenes], utc=True),
            "proj:code": [f"EPSG:{world.epsg(tile)}" for tile in tiles],
            "proj:shape": [[world.size, world.size]] * len(scenes),
            "proj:transform": [facts[tile] for tile in tiles],
            "geometry": [outline[tile] for tile in tiles],
        }
    )
    return complete(frame, "EPSG:4326")


def _lonlat(world: World, tile: str) -> shapely.Polygon:
    move = Transformer.from_crs(world.epsg(tile), 4326, always_xy=True)
    ring = shapely.box(*world.bounds(tile))
    return shapely.transform(ring, lambda xy: np.column_stack(move.transform(*xy.T)))


def _grid_facts(world: World, tile: str) -> list[float]:
    x, y = world.corner(tile)
    return [RES, 0.0, x, 0.0, -RES, y]


def _assets(world: World, tile: str, day: str) -> dict[str, object]:
    return {
        band: {
            "href": world.href(tile, day, band),
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data", "reflectance"],
            "bands": [{"name": band, "eo:common_name": name}],
            "nodata": 0,
            "data_type": "uint16",
            "raster:scale": SCALE,
            "raster:offset": 0.0,
        }
        for band, name in BANDS.items()
    }


@dataclass(frozen=True)
class Pair:
    """A place in zone 32, metres, and two scenes (tile, day) of it."""

    x: float
    y: float
    """Lower left corner."""
    pre: tuple[str, str]
    post: tuple[str, str]

    def slices(self):
        """As TorchGeo and the loader ask for it."""
        side = PATCH * RES
        times = (_day(self.pre[1]), _day(self.post[1]))
        return slice(self.x, self.x + side), slice(self.y, self.y + side), times


def _day(day: str) -> slice:
    start = pd.Timestamp(day)
    return slice(start, start + pd.Timedelta("1D") - pd.Timedelta("1us"))


def draw_pairs(world: World, count: int, seed: int, *, dates: int, zones: bool = False):
    """Independent random pairs: places by TorchGeo's own sampler, two random dates for each.

    Args:
        world: the scenes.
        count: of pairs.
        seed: of the draw.
        dates: how many of the dates are drawn from.
        zones: whether the second date is one of the other zone.
    """
    from torchgeo.samplers import RandomPatchSampler

    random = np.random.default_rng(seed)
    dataset = torchgeo_dataset(world, ["T32"], 1)
    places = RandomPatchSampler(
        dataset, size=PATCH, length=count, roi=world.common() if zones else None, generator=random
    )
    first, second = world.days("T32")[:dates], world.days("T33")[:dates]
    pairs = []
    for x, y in places:
        pre, post = np.sort(random.choice(dates, 2, replace=False))
        after = ("T33", second[post]) if zones else ("T32", first[post])
        pairs.append(Pair(float(x.start), float(y.start), ("T32", first[pre]), after))
    return pairs


def torchgeo_dataset(world: World, tiles: list[str], dates: int):
    """The scenes as a user of TorchGeo alone has them, in the CRS of the first."""
    from torchgeo.datasets import RasterDataset

    class Scenes(RasterDataset):
        filename_glob = f"T*_{next(iter(BANDS))}.tif"
        filename_regex = r"^T\d+_(?P<date>\d{8})_(?P<band>B\d+)\.tif$"
        separate_files = True
        all_bands = tuple(BANDS)

    first = next(iter(BANDS))
    paths = [world.href(tile, day, first) for tile in tiles for day in world.days(tile)[:dates]]
    return Scenes(paths, crs=world.epsg("T32"), res=RES)
