"""Make the sample data: a tiny, physically sensible, seeded world as COGs under a static catalog.

Usage: ``python sample_data/make.py [--out DIR] [--seed N]``. README.md beside this file says what
the world is. A world is drawn twice as fine as its pixels in local metres (x to the right, y down
from the upper left corner), then illuminated, blurred and averaged onto its pixel lattice.
Every random draw takes its own stream from `stream`, so one place and date can be made alone.
"""

import argparse
import datetime as dt
import math
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pystac
import rasterio
from odc.geo.geobox import GeoBox
from pystac.extensions.classification import Classification, ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.view import ViewExtension
from rasterio.features import rasterize
from rasterio.warp import transform, transform_geom
from scipy import ndimage
from scipy.spatial import cKDTree
from shapely import affinity
from shapely.geometry import LineString, MultiLineString, Point, Polygon, box, mapping
from shapely.geometry import shape as geometry_from
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient
from shapely.ops import unary_union

Array = npt.NDArray[Any]

BANDS = ("blue", "green", "red", "nir")
SHAPE, RES, FINE = (256, 448), 2.5, 2
SIZE = (SHAPE[1] * RES, SHAPE[0] * RES)
SCALE, QUANTUM = 0.0001, 16
"""Steps of 16 DN are half the noise (0.003) and keep the files small."""
SCENES = {"a": (0, 240), "b": (208, 448)}
"""First and last column of each scene on its place's lattice: 32 px of overlap."""
CENTRES = {"west": (11.98, 46.0), "east": (12.02, 46.0)}
"""Lon, lat: 3 km apart, on both sides of the border between zones 32 and 33."""
EPSG = {"west": 32632, "east": 32633}
SPLIT = {"west": "train", "east": "val"}
TOWN = {"west": (400.0, 330.0), "east": (480.0, 310.0)}
EVENT = {"name": "synthetic earthquake", "datetime": "2022-08-15T04:00:00Z"}
CLOUD_COVER = {
    "20210315": 0.0, "20210613": 0.0, "20210822": 0.35, "20211110": 0.83,
    "20220320": 0.2, "20220807": 0.01, "20220824": 0.01, "20230114": 0.3,
}  # fmt: skip
"""Every date (YYYYMMDD) with the share of cloud asked for; the masks hold the truth."""
POST = "20220824"
EDGES = {
    ("west", "20210613", "b"): ("ne", 110, 190), ("east", "20220320", "a"): ("sw", 120, 210),
    ("east", "20220824", "b"): ("se", 60, 120), ("west", "20230114", "a"): ("nw", 90, 240),
}  # fmt: skip
"""Swath edges: (place, date, scene) -> corner, and the legs of the lost triangle in px (x, y)."""
SENSOR = {"platform": "synthetic-1", "constellation": "synthetic", "instruments": ["msi"]}
EXTENSIONS = [f"https://stac-extensions.github.io/{name}/schema.json"
              for name in ("eo/v2.0.0", "raster/v2.0.0", "processing/v1.2.0")]  # fmt: skip
CLOUD_CLASSES = ("clear", "cloud", "cloud-shadow")
DAMAGE_CLASSES = ("background", "no-damage", "minor-damage", "major-damage", "destroyed")

# Reflectances of blue, green, red, nir.
CROP, GRASS = (0.03, 0.07, 0.035, 0.46), (0.035, 0.08, 0.045, 0.38)
SOIL, CANOPY = (0.085, 0.115, 0.15, 0.23), (0.02, 0.05, 0.025, 0.36)
LEAFLESS, WATER = (0.04, 0.06, 0.07, 0.2), (0.05, 0.055, 0.03, 0.012)
ASPHALT, RUBBLE = (0.1, 0.11, 0.115, 0.14), (0.23, 0.25, 0.27, 0.3)
ROOFS = np.array([
    (0.08, 0.12, 0.23, 0.30), (0.09, 0.13, 0.20, 0.26), (0.09, 0.095, 0.10, 0.12),
    (0.10, 0.12, 0.15, 0.20), (0.19, 0.20, 0.21, 0.23), (0.31, 0.33, 0.34, 0.35),
])  # fmt: skip
"""Two terracottas, slate, brown tile, flat gravel, light metal."""
PHENOLOGY = np.array([
    (0.10, 0.88, 135, 42), (0.03, 0.92, 212, 45), (0.45, 0.45, 160, 85), (0.25, 0.45, 190, 75),
])  # fmt: skip
"""Wheat, maize, meadow, orchard: base and gain of green cover, day of its peak, width in days."""
DIFFUSE = np.array([0.30, 0.24, 0.18, 0.12])[:, None, None]
"""Share of sky light per band: what a shadow keeps."""


@dataclass(frozen=True)
class World:
    """One place: what stands on the ground. Rasters are fine: [2 * 256, 2 * 448]."""

    place: str
    seed: int
    geobox: GeoBox
    """The place's lattice of 2.5 m pixels."""
    buildings: gpd.GeoDataFrame
    """Footprints in the place's CRS with place, building_id, height_m, damage, class, roof."""
    masks: dict[str, Array]
    """Booleans: water, road, yard, tree, forest."""
    parcel: Array
    """Index of the field."""
    house: Array
    """building_id, 0 elsewhere."""
    rubble: Array
    """Share of rubble after the event."""
    terrain: Array
    """Bare earth in metres."""


def stream(seed: int, *keys: str) -> np.random.Generator:
    """Return the random stream that belongs to these keys alone."""
    return np.random.default_rng([seed, *(zlib.crc32(key.encode()) for key in keys)])


def fractal(shape: tuple[int, int], beta: float, rng: np.random.Generator) -> Array:
    """Return noise of power spectrum f ** -beta, mean 0 and standard deviation 1."""
    freq = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    freq[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * freq ** (-beta / 2), s=shape)
    return np.asarray(noise / noise.std())


def grain(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Array:
    """Return white noise blurred to grains of `sigma` fine pixels, standard deviation 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    return np.asarray(noise / noise.std())


def burn(shapes: Any, dtype: str = "bool") -> Array:
    """Rasterise local geometries, or pairs with a value, on the fine grid."""
    pairs = [s if isinstance(s, tuple) else (s, 1) for s in shapes if s]
    grid = rasterio.Affine.scale(RES / FINE)
    out_shape = (SHAPE[0] * FINE, SHAPE[1] * FINE)
    return np.asarray(rasterize(pairs, out_shape, transform=grid, dtype="int32")).astype(dtype)


def place_geobox(place: str) -> GeoBox:
    """Return the place's lattice in its own UTM zone, its corner on a multiple of 10 m."""
    lon, lat = CENTRES[place]
    (x,), (y,) = transform("EPSG:4326", f"EPSG:{EPSG[place]}", [lon], [lat])
    left, top = round((x - SIZE[0] / 2) / 10) * 10, round((y + SIZE[1] / 2) / 10) * 10
    affine = rasterio.Affine(RES, 0, left, 0, -RES, top)
    return GeoBox(SHAPE, affine, f"EPSG:{EPSG[place]}")


def to_map(geom: BaseGeometry, geobox: GeoBox) -> BaseGeometry:
    """Move a local geometry (metres, y down) to the place's CRS."""
    a = geobox.affine
    return affinity.affine_transform(geom, [1, 0, 0, -1, a.c, a.f])


def street_plan(place: str, rng: np.random.Generator) -> tuple[list[LineString], LineString]:
    """Draw a town's streets as a slightly turned, uneven lattice, and the road through it."""
    cx, cy = TOWN[place]
    turn = rng.uniform(-20, 20)
    town = affinity.rotate(affinity.scale(Point(cx, cy).buffer(1), 300, 205), turn)
    across = [LineString([(cx + o, cy - 400), (cx + o + rng.uniform(-25, 25), cy + 400)])
              for o in np.arange(-270, 271, 90) + rng.uniform(-12, 12, 7)]  # fmt: skip
    along = [LineString([(cx - 400, cy + o), (cx + 400, cy + o + rng.uniform(-20, 20))])
             for o in (-150, -78, 78, 150)]  # fmt: skip
    lines = [affinity.rotate(s, turn, origin=(cx, cy)).intersection(town) for s in across + along]
    x = np.linspace(-20, SIZE[0] + 20, 60)
    slope = math.tan(math.radians(turn)) * np.exp(-(((x - cx) / 400) ** 2))
    y = cy + 45 * np.sin((x - cx) / 260) + slope * (x - cx)
    return [s for s in lines if s.length > 60], LineString(np.column_stack([x, y]))


def water_body(place: str, rng: np.random.Generator) -> BaseGeometry:
    """Draw the river of `west` or the pond of `east`."""
    if place == "west":
        y = np.linspace(-40, SIZE[1] + 40, 80)
        x = 860 + 38 * np.sin(y / 95 + rng.uniform(0, 6)) + 14 * np.sin(y / 37)
        return LineString(np.column_stack([x, y])).buffer(13)
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radius = 58 + 12 * np.sin(2 * angle + rng.uniform(0, 6)) + 7 * np.sin(3 * angle)
    x, y = 955 + 1.5 * radius * np.cos(angle), 150 + radius * np.sin(angle)
    return Polygon(np.column_stack([x, y]))


def lots(line: LineString, step: float, rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Return lots (x, y, bearing of the street, side) along both sides of a line."""
    out: list[tuple[float, ...]] = []
    for s in np.arange(step / 2, line.length, step) + rng.uniform(-4, 4):
        p, q = line.interpolate(s), line.interpolate(s + 1)
        out += [(p.x, p.y, math.atan2(q.y - p.y, q.x - p.x), side) for side in (-1.0, 1.0)]
    return out


def house_on(lot: tuple[float, ...], rng: np.random.Generator) -> Polygon:
    """Put a rectangle of 10-35 m on a lot, along its street but not quite."""
    x, y, bearing, side = lot
    large = rng.random() < 0.12
    length, depth = rng.uniform(*((22, 14), (35, 22)) if large else ((11, 10), (21, 14)))
    away = side * (9 + depth / 2 + rng.uniform(0, 5))
    centre = (x - away * math.sin(bearing), y + away * math.cos(bearing))
    rect = affinity.translate(box(-length / 2, -depth / 2, length / 2, depth / 2), *centre)
    return affinity.rotate(rect, math.degrees(bearing) + rng.normal(0, 4))


def settle(
    streets: list[LineString], road: LineString, keep_off: BaseGeometry, rng: np.random.Generator
) -> list[Polygon]:
    """Fill up to 145 lots with buildings that touch neither each other, a road nor water."""
    town = [lot for s in streets for lot in lots(s, 23, rng)] + lots(road, 48, rng)
    inside = box(12, 12, SIZE[0] - 12, SIZE[1] - 12)
    placed: list[Polygon] = []
    for i in rng.permutation(len(town)):
        rect = house_on(town[i], rng)
        free = inside.contains(rect) and not rect.intersects(keep_off)
        if free and all(rect.distance(other) > 3 for other in placed):
            placed.append(rect)
        if len(placed) == 145:
            break
    return placed


def damage_grades(rects: list[Polygon], rng: np.random.Generator) -> Array:
    """Grade 17 % destroyed, 13 % major, 11 % minor: a smooth shaking plus each one's weakness."""
    phase = rng.uniform(0, 6, 2)
    x, y = np.array([(r.centroid.x, r.centroid.y) for r in rects]).T
    shaking = np.sin(x / 140 + phase[0]) + np.sin(y / 110 + phase[1])
    rank = np.argsort(np.argsort(shaking + rng.normal(0, 1.2, len(rects)))) / len(rects)
    return np.digitize(rank, [0.59, 0.70, 0.83]) + 1


def rubble_share(
    rects: list[Polygon], grades: Array, house: Array, rng: np.random.Generator
) -> Array:
    """Return the rubble's share: patches of minor, half of major, destroyed with an apron."""
    grade = np.concatenate([[0], grades])[house]
    patches = grain(house.shape, 2.0, rng) > 0.2
    halves = []
    for rect in (r for r, g in zip(rects, grades, strict=True) if g == 3):
        big = box(0, -60, 120, 60) if rng.random() < 0.5 else box(-120, -60, 0, 60)
        cut = affinity.translate(big, rect.centroid.x + rng.uniform(-2, 2), rect.centroid.y)
        halves.append(
            rect.intersection(affinity.rotate(cut, rng.uniform(0, 360), origin=rect.centroid))
        )
    apron = burn([r.buffer(3.5) for r, g in zip(rects, grades, strict=True) if g == 4])
    whole = (grade == 4) | (apron & (house == 0)) | (burn(halves) & (grade == 3))
    return np.where(whole, 1.0, np.where((grade == 2) & patches, 0.65, 0.0))


def land_masks(
    place: str, roads: Array, water: Array, rects: list[Polygon], seed: int
) -> dict[str, Array]:
    """Return the masks of cover; forest keeps away from roads and houses."""
    rng = stream(seed, place, "cover")
    house = burn(rects)
    yard = burn([unary_union([r.buffer(11) for r in rects]).buffer(9).buffer(-7)])
    clear = ndimage.binary_dilation(yard | roads | water, iterations=10)
    wood = fractal(yard.shape, 3.2, rng)
    tree = (grain(yard.shape, 2.4, rng) > 1.35) & yard
    forest = (wood > np.quantile(wood[~clear], 0.78)) & ~clear
    bank = ndimage.binary_dilation(water, iterations=9) & (grain(yard.shape, 4, rng) > 0.3)
    keep = ~(house | roads | water)
    return {
        "water": water,
        "road": roads,
        "yard": yard,
        "tree": (tree | bank) & keep,
        "forest": forest & keep,
    }


def voronoi_fields(seed: int, place: str) -> Array:
    """Return the index of the field: strips by a Voronoi diagram in turned, stretched metres."""
    rng = stream(seed, place, "fields")
    turn = rng.uniform(0.2, 0.9)
    y, x = np.mgrid[0 : SHAPE[0] * FINE, 0 : SHAPE[1] * FINE] * (RES / FINE)
    matrix = np.array(
        [[math.cos(turn), math.sin(turn)], [-1.8 * math.sin(turn), 1.8 * math.cos(turn)]]
    )
    sites = rng.uniform((-100, -100), (SIZE[0] + 100, SIZE[1] + 100), (110, 2))
    points = np.column_stack([x.ravel(), y.ravel()])
    return np.asarray(cKDTree(sites @ matrix.T).query(points @ matrix.T)[1]).reshape(x.shape)


def make_world(place: str, seed: int = 0) -> World:
    """Build one place: relief, fields, woods, water, roads, and buildings with their fate."""
    rng, geobox = stream(seed, place, "plan"), place_geobox(place)
    streets, road = street_plan(place, rng)
    lake = water_body(place, rng)
    ways = unary_union([MultiLineString(streets).buffer(3), road.buffer(4.5)])
    rects = settle(streets, road, unary_union([ways.buffer(3), lake.buffer(15)]), rng)
    grades = damage_grades(rects, rng)
    water, ids = burn([lake]), range(1, len(rects) + 1)
    house = burn(list(zip(rects, ids, strict=True)), "int32")
    relief = 150 + 9 * fractal(house.shape, 4.0, stream(seed, place, "relief"))
    relief -= 4 * np.exp(-((ndimage.distance_transform_edt(~water) * RES / FINE / 60) ** 2))
    table = gpd.GeoDataFrame(
        {"place": place, "building_id": ids, "height_m": rng.uniform(4, 12, len(rects)).round(1),
         "damage": [DAMAGE_CLASSES[g] for g in grades], "class": grades,
         "roof": rng.choice(len(ROOFS), len(rects), p=[0.3, 0.2, 0.15, 0.15, 0.12, 0.08])},
        geometry=[to_map(r, geobox) for r in rects], crs=f"EPSG:{EPSG[place]}",
    )  # fmt: skip
    masks = land_masks(place, burn([ways]), water, rects, seed)
    share = rubble_share(rects, grades, house, rng)
    return World(
        place, seed, geobox, table, masks, voronoi_fields(seed, place), house, share, relief
    )


def objects_height(world: World, after: bool) -> tuple[Array, Array]:
    """Return metres of (the smooth tops: hipped roofs, crowns; all that stands on the ground)."""
    heights = np.concatenate([[0], world.buildings["height_m"].to_numpy()])
    inner = ndimage.distance_transform_edt(world.house > 0)
    ridge = np.concatenate([[1], ndimage.maximum(inner, world.house, np.arange(1, len(heights)))])
    rise = inner / ridge[world.house]
    house = heights[world.house] * (0.75 + 0.25 * rise)
    crown = grain(house.shape, 2.5, stream(world.seed, world.place, "crowns"))
    trees = world.masks["forest"] * (13 + 1.5 * crown) + world.masks["tree"] * (5 + crown)
    tops = heights[world.house] * 0.25 * rise + 0.5 * crown * (trees > 0)
    if after:
        heap = 0.12 * heights[world.house] + 0.4 * np.abs(crown)
        fallen = world.rubble > 0.9
        house, tops = np.where(fallen, heap, house), np.where(fallen, 0.4 * crown, tops)
    return tops, house + trees


def surface_model(world: World) -> Array:
    """Return the DSM [256, 448] before the event in metres, in steps of 1/16 m."""
    fine = world.terrain + objects_height(world, after=False)[1]
    return np.asarray((coarse(fine[None])[0] * 16).round() / 16, "float32")


def sun_position(when: dt.datetime, lon: float, lat: float) -> tuple[float, float]:
    """Return the sun's (elevation, azimuth from north) in degrees, after Spencer (1971)."""
    year = 2 * math.pi * (when.timetuple().tm_yday - 1 + when.hour / 24) / 365
    waves = [1, math.cos(year), math.sin(year), math.cos(2 * year), math.sin(2 * year)]
    decl = float(np.dot(waves, [0.006918, -0.399912, 0.070257, -0.006758, 0.000907]))
    equation = 229.18 * float(np.dot(waves, [7.5e-5, 0.001868, -0.032077, -0.014615, -0.040849]))
    minutes = when.hour * 60 + when.minute + when.second / 60 + equation + 4 * lon
    hour, phi = math.radians(minutes / 4 - 180), math.radians(lat)
    south = math.cos(hour) * math.sin(phi) - math.tan(decl) * math.cos(phi)
    lift = math.sin(phi) * math.sin(decl) + math.cos(phi) * math.cos(decl) * math.cos(hour)
    azimuth = math.degrees(math.atan2(math.sin(hour), south)) + 180
    return math.degrees(math.asin(lift)), azimuth % 360


def overpass(place: str, date: str, scene: str = "a") -> dt.datetime:
    """Return the acquisition: about 10:10 UTC, `b` 4 s after `a`, west 3 s after east."""
    day = dt.datetime.strptime(date, "%Y%m%d").replace(tzinfo=dt.UTC)
    late = int(stream(0, date).integers(0, 60))
    late += 3 * (place == "west") + 4 * (scene == "b")
    return day + dt.timedelta(hours=10, minutes=9, seconds=30 + late)


def cast_shadow(dsm: Array, elevation: float, azimuth: float) -> Array:
    """Return the share [0, 1] of shade: marches toward the sun over whatever stands higher."""
    sun_x, sun_y = math.sin(math.radians(azimuth)), -math.cos(math.radians(azimuth))
    rise, shade = math.tan(math.radians(elevation)) * RES / FINE, np.zeros(dsm.shape, bool)
    for k in range(1, min(48, int(16 / rise) + 2)):
        seen = ndimage.shift(dsm, (-k * sun_y, -k * sun_x), order=0, mode="nearest")
        shade |= seen - k * rise > dsm + 0.3
    return np.asarray(ndimage.gaussian_filter(shade.astype("float32"), 0.7))


def illumination(world: World, elevation: float, azimuth: float, after: bool) -> Array:
    """Return the light [4, h, w] relative to flat open ground: direct on slopes, plus sky light."""
    tops, above = objects_height(world, after)
    gy, gx = np.gradient(world.terrain + tops, RES / FINE)
    el, az = math.radians(elevation), math.radians(azimuth)
    toward = math.sin(el) - math.cos(el) * (gx * math.sin(az) - gy * math.cos(az))
    direct = np.clip(toward / np.sqrt(1 + gx**2 + gy**2) / math.sin(el), 0.35, 1.6)
    direct = direct * (1 - cast_shadow(world.terrain + above, elevation, azimuth))
    return np.asarray(DIFFUSE + (1 - DIFFUSE) * direct)


def mix(share: float | Array, first: Any, second: Any) -> Array:
    """Blend two spectra (4 values, or [4, h, w]): `share` of the first, the rest of the second."""
    a, b = (np.reshape(s, (4, 1, 1)) if np.ndim(s) == 1 else s for s in (first, second))
    return np.asarray(share * a + (1 - share) * b)


def fields_reflectance(world: World, day: dt.datetime) -> Array:
    """Return fields [4, h, w]: each parcel's crop of the year grows and is cut by the day."""
    soil_rng, doy = stream(world.seed, world.place, "soil"), day.timetuple().tm_yday
    rng, n = stream(world.seed, world.place, f"crop{day.year}"), int(world.parcel.max()) + 1
    lasting = soil_rng.choice([0, 2, 3], n, p=[0.68, 0.22, 0.10])
    kind = np.where(lasting > 0, lasting, rng.choice([0, 1], n))
    base, gain, peak, width = PHENOLOGY[kind].T
    cover = base + gain * np.exp(-(((doy - peak - rng.normal(0, 9, n)) / width) ** 2))
    patchy = fractal(world.parcel.shape, 2.2, stream(world.seed, world.place, "patchy"))
    bright = (soil_rng.uniform(0.75, 1.35, n))[world.parcel] * (1 + 0.07 * patchy)
    share = np.clip(cover[world.parcel] * (1 + 0.07 * patchy), 0, 1)
    return mix(share, CROP, np.array(SOIL)[:, None, None] * bright)


def reflectance(world: World, day: dt.datetime, after: bool) -> Array:
    """Return what the ground would reflect [4, h, w] in even light: covers painted in order."""
    m, draw = world.masks, partial(stream, world.seed, world.place)
    texture = grain(world.parcel.shape, 1.2, draw("texture"))
    season = math.exp(-(((day.timetuple().tm_yday - 195) / 85) ** 2))
    lawn = mix(0.35 + 0.5 * season, GRASS, np.array(SOIL) * 1.15)
    paved = fractal(texture.shape, 2.0, draw("paved")) > 0.6
    out = fields_reflectance(world, day)
    leaves = mix(0.25 + 0.75 * season, CANOPY, LEAFLESS)
    out = np.where(m["yard"], np.where(paved, mix(0.5, ASPHALT, SOIL), lawn), out)
    out = np.where(m["forest"] | m["tree"], leaves, out)
    out = out * (1 + 0.05 * texture)
    out = np.where(m["water"], np.reshape(WATER, (4, 1, 1)), out)
    out = np.where(m["road"], np.reshape(ASPHALT, (4, 1, 1)) * (1 + 0.04 * texture), out)
    tone = draw("tone").uniform(0.85, 1.15, len(world.buildings) + 1)
    roofs = np.vstack([np.zeros(4), ROOFS[world.buildings["roof"]]]) * tone[:, None]
    tiled = np.moveaxis(roofs[world.house], -1, 0) * (1 + 0.04 * texture)
    out = np.where(world.house > 0, tiled, out)
    if after:
        rough = grain(texture.shape, 0.9, draw("rubble"))
        heap = np.reshape(RUBBLE, (4, 1, 1)) * np.clip(1 + 0.35 * rough, 0.35, 1.9)
        out = mix(world.rubble, heap, out)
    return out


def coarse(fine: Array) -> Array:
    """Average [bands, 2h, 2w] to [bands, h, w]."""
    n, h, w = fine.shape
    return np.asarray(fine.reshape(n, h // FINE, FINE, w // FINE, FINE).mean((2, 4)))


def cloud_cover(world: World, date: str, elevation: float, azimuth: float) -> tuple[Array, Array]:
    """Return the opacity [h, w] of the clouds, at 250 m above ground, and that of their shadow."""
    share, soft = CLOUD_COVER[date], 0.9
    if share == 0:
        return np.zeros(SHAPE), np.zeros(SHAPE)
    sky = fractal((1024, 1024), 3.5, stream(world.seed, world.place, date, "cloud"))
    reach = 250 / math.tan(math.radians(elevation)) / RES
    dy = 384 - round(reach * math.cos(math.radians(azimuth)))
    dx = 288 + round(reach * math.sin(math.radians(azimuth)))
    over = sky[384 : 384 + SHAPE[0], 288 : 288 + SHAPE[1]]
    toward_sun = sky[dy : dy + SHAPE[0], dx : dx + SHAPE[1]]
    base = np.quantile(over, 1 - share) - 0.2 * soft
    return np.clip((over - base) / soft, 0, 1), np.clip((toward_sun - base) / soft, 0, 1)


def render(world: World, date: str) -> tuple[Array, Array]:
    """Return a place on a date: reflectance float [4, 256, 448] and the cloud classes uint8."""
    day, rng = overpass(world.place, date), stream(world.seed, world.place, date, "sensor")
    after = day > dt.datetime.fromisoformat(EVENT["datetime"])
    elevation, azimuth = sun_position(day, *CENTRES[world.place])
    ground = reflectance(world, day, after) * illumination(world, elevation, azimuth, after)
    blurred = ndimage.gaussian_filter(ground, (0, 0.9, 0.9), mode="nearest")
    angle, haze = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.012)
    jitter = (0, FINE * 0.3 * math.sin(angle), FINE * 0.3 * math.cos(angle))
    seen = coarse(ndimage.shift(blurred, jitter, order=1, mode="nearest"))
    cloud, shade = cloud_cover(world, date, elevation, azimuth)
    seen = seen * (1 - 0.8 * shade * (1 - DIFFUSE))
    top = 0.62 + 0.1 * cloud + 0.02 * fractal(SHAPE, 2.0, rng)
    seen = mix(0.97 * cloud, np.broadcast_to(top, seen.shape), seen)
    seen = seen * rng.uniform(0.97, 1.03) + haze * np.array([1, 0.6, 0.35, 0.1])[:, None, None]
    classes = np.where(cloud > 0.2, 1, np.where(shade > 0.2, 2, 0)).astype("uint8")
    return seen + rng.normal(0, 0.003, seen.shape), classes


def offset_of(date: str) -> float:
    """Return the reflectance of DN 0: processing baseline 04 added 1000 DN on 2022-01-25."""
    return -0.1 if date >= "20220125" else 0.0


def digital_numbers(refl: Array, date: str) -> Array:
    """Return reflectance as uint16; 0 stays free for nodata."""
    dn = np.round(refl / SCALE / QUANTUM) * QUANTUM - round(offset_of(date) / SCALE)
    return np.clip(dn, QUANTUM, 65535).astype("uint16")


def scene_geobox(world: World, scene: str) -> GeoBox:
    """Return the scene's part of the place's lattice."""
    (first, last), a = SCENES[scene], world.geobox.affine
    affine = rasterio.Affine(RES, 0, a.c + first * RES, 0, -RES, a.f)
    return GeoBox((SHAPE[0], last - first), affine, world.geobox.crs)


def scene_footprint(world: World, date: str, scene: str) -> BaseGeometry:
    """Return the polygon with data in the place's CRS: less a swath edge's triangle."""
    full = box(*scene_geobox(world, scene).boundingbox.bbox)
    if (world.place, date, scene) not in EDGES:
        return full
    corner, across, down = EDGES[world.place, date, scene]
    left, bottom, right, top = full.bounds
    x, y = (right if "e" in corner else left), (top if "n" in corner else bottom)
    inward = (-RES if "e" in corner else RES), (-RES if "n" in corner else RES)
    return full.difference(
        Polygon([(x, y), (x + across * inward[0], y), (x, y + down * inward[1])])
    )


def scene_arrays(
    world: World, date: str, scene: str, rendered: tuple[Array, Array]
) -> dict[str, Array]:
    """Cut the scene's arrays, by asset key, out of what `render` gave for the whole place."""
    refl, cloud = rendered
    cols, grid = slice(*SCENES[scene]), scene_geobox(world, scene)
    valid = rasterize([scene_footprint(world, date, scene)], grid.shape, transform=grid.affine) > 0
    dn = digital_numbers(refl[:, :, cols], date) * valid
    out = dict(zip(BANDS, dn, strict=True)) | {"cloud": cloud[:, cols] * valid}
    if date == POST:
        pairs = zip(world.buildings.geometry, world.buildings["class"], strict=True)
        label = rasterize(pairs, grid.shape, transform=grid.affine, dtype="uint8")
        out["damage"] = np.where(valid, label, 255).astype("uint8")
    return out


def write_cog(path: Path, array: Array, geobox: GeoBox, nodata: float | None) -> None:
    """Write [h, w] as a COG of 128 px blocks with overviews."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="COG", height=array.shape[0], width=array.shape[1], count=1,
        dtype=array.dtype, crs=str(geobox.crs), transform=geobox.affine, nodata=nodata,
        BLOCKSIZE=128, COMPRESS="DEFLATE", LEVEL=9, PREDICTOR="YES", OVERVIEWS="AUTO",
        OVERVIEW_RESAMPLING="NEAREST",
    ) as target:  # fmt: skip
        target.write(array, 1)


def new_item(
    name: str, world: World, shape: BaseGeometry, grid: GeoBox, when: dt.datetime
) -> pystac.Item:
    """Return an Item with its footprint in lon/lat, place, split and projection."""
    lonlat = transform_geom(
        f"EPSG:{EPSG[world.place]}", "EPSG:4326", mapping(orient(shape)), precision=9
    )
    bbox = list(geometry_from(lonlat).bounds)
    item = pystac.Item(
        name, lonlat, bbox, when, {"place": world.place, "split": SPLIT[world.place], "gsd": RES}
    )
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=f"EPSG:{EPSG[world.place]}",
        shape=list(grid.shape),
        transform=[float(v) for v in grid.affine[:6]],
    )
    return item


def add_asset(item: pystac.Item, key: str, role: str, band: dict[str, Any]) -> pystac.Asset:
    """Add the asset `key` in the file `key`.tif with one STAC 1.1 band."""
    asset = pystac.Asset(
        f"./{key}.tif",
        key,
        media_type=pystac.MediaType.COG,
        roles=[role],
        extra_fields={"bands": [band]},
    )
    item.add_asset(key, asset)
    return asset


def add_classes(
    item: pystac.Item, key: str, role: str, names: tuple[str, ...], extra: dict[str, Any]
) -> None:
    """Add a uint8 asset of named classes."""
    asset = add_asset(item, key, role, {"name": key, "data_type": "uint8", **extra})
    listed = [Classification.create(value=i, name=n, description=n) for i, n in enumerate(names)]
    ClassificationExtension.ext(asset, add_if_missing=True).apply(classes=listed)


def scene_item(world: World, date: str, scene: str, arrays: dict[str, Array]) -> pystac.Item:
    """Describe a scene; cloud cover is the share of class 1 among pixels with data."""
    when, grid = overpass(world.place, date, scene), scene_geobox(world, scene)
    item = new_item(
        f"{world.place}_{date}_{scene}", world, scene_footprint(world, date, scene), grid, when
    )
    clouds = 100 * float((arrays["cloud"] == 1).sum() / (arrays["blue"] > 0).sum())
    version = "04" if offset_of(date) else "03"
    item.properties |= SENSOR | {"eo:cloud_cover": round(clouds, 4), "processing:version": version}
    item.stac_extensions += EXTENSIONS
    elevation, azimuth = sun_position(when, *CENTRES[world.place])
    ViewExtension.ext(item, add_if_missing=True).apply(
        sun_elevation=round(elevation, 3), sun_azimuth=round(azimuth, 3)
    )
    for band in BANDS:
        radiometry = {"raster:scale": SCALE, "raster:offset": offset_of(date)}
        stored = {"name": band, "eo:common_name": band, "data_type": "uint16", "nodata": 0}
        add_asset(item, band, "data", stored | radiometry)
    add_classes(item, "cloud", "cloud", CLOUD_CLASSES, {})
    if "damage" in arrays:
        add_classes(item, "damage", "labels", DAMAGE_CLASSES, {"nodata": 255})
    return item


def write_scenes(world: World, out: Path) -> list[pystac.Item]:
    """Render every date of a place, write its scenes' files and return their Items."""
    items = []
    for date in CLOUD_COVER:
        rendered = render(world, date)
        for scene in SCENES:
            arrays, grid = scene_arrays(world, date, scene, rendered), scene_geobox(world, scene)
            items.append(scene_item(world, date, scene, arrays))
            for key, array in arrays.items():
                nodata = {"cloud": None, "damage": 255}.get(key, 0)
                write_cog(out / "scenes" / items[-1].id / f"{key}.tif", array, grid, nodata)
    return items


def write_dsm(world: World, out: Path) -> pystac.Item:
    """Write a place's DSM and return its Item."""
    when, full = dt.datetime(2021, 1, 1, tzinfo=dt.UTC), box(*world.geobox.boundingbox.bbox)
    item = new_item(f"dsm_{world.place}", world, full, world.geobox, when)
    write_cog(out / "dsm" / item.id / "dsm.tif", surface_model(world), world.geobox, -9999.0)
    band = {"name": "dsm", "data_type": "float32", "nodata": -9999, "unit": "m"}
    add_asset(item, "dsm", "data", band)
    return item


def collection(name: str, title: str, items: list[pystac.Item]) -> pystac.Collection:
    """Gather items in a Collection whose extent is theirs."""
    made = pystac.Collection(
        name, title, pystac.Extent.from_items(items), title=title, license="CC0-1.0"
    )
    made.add_items(items)
    return made


def build(out: Path, seed: int = 0) -> None:
    """Write the whole sample: COGs, buildings.geojson and the static catalog."""
    worlds = [make_world(place, seed) for place in EPSG]
    scenes = [item for world in worlds for item in write_scenes(world, out)]
    heights = [write_dsm(world, out) for world in worlds]
    about = "A synthetic town, twice, before and after an earthquake."
    catalog = pystac.Catalog("rscontrast-sample", about, extra_fields={"event": EVENT})
    catalog.add_child(collection("scenes", "Synthetic 2.5 m scenes, four bands", scenes))
    catalog.add_child(collection("dsm", "Synthetic surface models in metres", heights))
    catalog.normalize_and_save(str(out), pystac.CatalogType.SELF_CONTAINED)
    houses = [world.buildings.drop(columns="roof").to_crs(4326) for world in worlds]
    table = pd.concat(houses, ignore_index=True)
    table.to_file(out / "buildings.geojson", driver="GeoJSON", COORDINATE_PRECISION=9)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write into"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed makes another world")
    args = parser.parse_args()
    build(args.out, args.seed)


if __name__ == "__main__":
    main()
