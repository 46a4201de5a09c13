"""Does the catalog hold at a million items? Search and index, each beside plain geopandas.

Items like those of Sentinel-2 are generated: places x dates, four assets each, in the house's own
stac-geoparquet. Each figure is taken in a fresh process, so that imports and memory count.

    python benchmarks/catalog.py --items 1000000 --json runs/catalog.json

The generated file is kept in --out and made again only for other settings.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

import rscontrast
from rscontrast.atomic import atomic_path, write_text

DATES = 500
START = np.datetime64("2018-01-01T10:30:00", "us")
BATCH = 20_000
CLOUD = 20.0
ASSETS = {
    "blue": ("B02", 0.49),
    "green": ("B03", 0.56),
    "red": ("B04", 0.665),
    "nir": ("B08", 0.84),
}
QUERY = {"aoi": (8.0, 45.0, 11.0, 47.0), "toi": ("2020-01-01", "2020-12-31"), "cloud": CLOUD}


def main() -> None:
    options = parse()
    path = options.out / f"items-{options.items}-{options.order}-{options.seed}.parquet"
    if not path.is_file():
        begun = time.perf_counter()
        generate(path, options.items, options.seed, options.order)
        print(f"{path}: {path.stat().st_size / 1e6:.0f} MB in {time.perf_counter() - begun:.0f} s")
    rows: list[dict[str, object]] = []
    for measure in MEASURES:
        rows += measure(path, options)
        print(table(rows), flush=True)
    if options.json is not None:
        report = {"settings": settings(options, path), "rows": rows}
        write_text(options.json, json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("runs/catalog"), help="folder of the file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--order", choices=("place", "time"), default="place", help="of the rows")
    parser.add_argument(
        "--repeat", type=int, default=3, help="processes a figure; the median counts"
    )
    parser.add_argument("--quick", action="store_true", help="20,000 items, in under a minute")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        raise SystemExit
    if options.quick:
        options.items, options.repeat = 20_000, 1
    return options


# The items.


def generate(path: Path, items: int, seed: int, order: str) -> None:
    """Write the items batch by batch, so that their number does not show in memory.

    In the order "place" neighbours on the ground lie together, as ``write_items`` lays them out;
    in the order "time" they come as an archive grows, which spreads each place over the file.
    """
    from rscontrast.stac.sources.write import items_table

    places = make_places(max(1, items // DATES), seed)
    rows = np.arange(len(places) * DATES)[:items]
    place, date = (
        (rows // DATES, rows % DATES) if order == "place" else np.divmod(rows, len(places))[::-1]
    )
    with atomic_path(path) as tmp:
        writer = None
        for start in range(0, len(rows), BATCH):
            part = slice(start, start + BATCH)
            made = items_table(make_items(places, place[part], date[part], seed + start))
            if writer is None:
                writer = pq.ParquetWriter(tmp, made.schema, compression="zstd")
            writer.write_table(made.cast(writer.schema), row_group_size=BATCH)
        writer.close()


def make_places(count: int, seed: int) -> pd.DataFrame:
    """Tiles of 110 km scattered over the land's latitudes, along a Hilbert curve."""
    random = np.random.default_rng(seed)
    west, south = random.uniform(-179, 178, count), random.uniform(-60, 70, count)
    # The query's own region is never empty.
    west[: count // 100 + 1], south[: count // 100 + 1] = 8.5, 45.5
    middles = gpd.GeoSeries(gpd.points_from_xy(west, south))
    order = np.argsort(middles.hilbert_distance(total_bounds=(-180, -90, 180, 90)).to_numpy())
    west, south = west[order], south[order]
    zone = (np.floor((west + 180) / 6) + 1).astype(int)
    return pd.DataFrame(
        {
            "west": west,
            "south": south,
            "width": 1 / np.cos(np.radians(np.clip(south, -60, 60))),
            "epsg": np.where(south >= 0, 32600, 32700) + zone,
            "tile": [f"{z:02d}T{i:05d}" for i, z in enumerate(zone)],
            "orbit": random.integers(1, 144, count),
            "x": 100_000 * random.integers(3, 7, count),
            "y": 100_020 + 100_000 * random.integers(10, 80, count),
        }
    )


def make_items(places, place, date, seed):
    """Items of some places and dates, as ``search`` gives them."""
    from rscontrast.stac.items.frame import complete

    random = np.random.default_rng(seed)
    here, count = places.iloc[place].reset_index(drop=True), len(place)
    # Footprints move by up to 2 % of a tile; one in seven shows a part of it only.
    moved = random.uniform(-0.01, 0.01, (4, count))
    part = np.where(random.random(count) < 1 / 7, random.uniform(0.2, 0.9, count), 1.0)
    west, south = here["west"] + moved[0], here["south"] + moved[1]
    east, north = west + here["width"] * part + moved[2], south + 1 + moved[3]
    north = np.minimum(north, 89.9)
    corners = shapely.box(west, south, east, north)
    times = START + (date * 5 * 86_400_000_000 + here.index % 600 * 1_000_000).astype("m8[us]")
    day = pd.DatetimeIndex(times).strftime("%Y%m%d")
    names = [f"S2A_{tile}_{d}_{n}_L2A" for tile, d, n in zip(here["tile"], day, date, strict=True)]
    grid = [[10980, 10980]] * count
    affine = [
        [10.0, 0.0, float(x), 0.0, -10.0, float(y)]
        for x, y in zip(here["x"], here["y"], strict=True)
    ]
    frame = pd.DataFrame(
        {
            "id": names,
            "stac_extensions": [EXTENSIONS] * count,
            "bbox": shapely.bounds(corners).tolist(),
            "links": [links(name) for name in names],
            "assets": [assets(name) for name in names],
            "collection": "sentinel-2-l2a",
            "datetime": pd.DatetimeIndex(times, tz="UTC"),
            "platform": np.where(date % 2, "sentinel-2a", "sentinel-2b"),
            "constellation": "sentinel-2",
            "instruments": [["msi"]] * count,
            "eo:cloud_cover": np.round(100 * random.beta(0.5, 0.7, count), 2),
            "sat:relative_orbit": here["orbit"],
            "grid:code": "MGRS-" + here["tile"],
            "view:sun_azimuth": np.round(random.uniform(120, 200, count), 3),
            "view:sun_elevation": np.round(random.uniform(15, 70, count), 3),
            "proj:code": "EPSG:" + here["epsg"].astype(str),
            "proj:shape": grid,
            "proj:transform": affine,
            "geometry": corners,
        }
    )
    return complete(frame, "EPSG:4326")


EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("eo/v2.0.0", "sat/v1.0.0", "view/v1.0.0", "projection/v2.0.0", "grid/v1.1.0")
]


def links(name: str) -> list[dict[str, str]]:
    root = "https://example.com/stac"
    return [
        {"rel": "self", "href": f"{root}/collections/sentinel-2-l2a/items/{name}"},
        {"rel": "collection", "href": f"{root}/collections/sentinel-2-l2a"},
    ]


def assets(name: str) -> dict[str, object]:
    return {
        key: {
            "href": f"https://example.com/sentinel-s2-l2a-cogs/{name[4:]}/{name}/{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "title": f"{key.title()} (band {band[1:]}) - 10m",
            "roles": ["data", "reflectance"],
            "bands": [{"name": key, "eo:common_name": key, "eo:center_wavelength": wavelength}],
            "nodata": 0,
            "data_type": "uint16",
            "raster:scale": 0.0001,
            "raster:offset": -0.1,
        }
        for key, (band, wavelength) in ASSETS.items()
    }


# What is measured. Each runs in a process of its own and prints one line of JSON.


def search_ours(path: str) -> int:
    from rscontrast.stac.search import search

    found = search(
        path, aoi=QUERY["aoi"], toi="/".join(QUERY["toi"]), filter=f"eo:cloud_cover < {CLOUD}"
    )
    return len(found)


def search_plain(path: str) -> int:
    frame = gpd.read_parquet(path, bbox=QUERY["aoi"])
    start, end = (pd.Timestamp(day, tz="UTC") for day in QUERY["toi"])
    frame = frame[frame.intersects(shapely.box(*QUERY["aoi"]))]
    frame = frame[(frame["datetime"] >= start) & (frame["datetime"] < end + pd.Timedelta("1D"))]
    return len(frame[frame["eo:cloud_cover"] < CLOUD])


def index_ours(path: str) -> int:
    from rscontrast.stac import read_items
    from rscontrast.stac.index import grids, index_items

    items = read_items(path)
    return len(index_items(items, grids(items, "red")))


def index_plain(path: str) -> int:
    """Footprints in the CRS of most items; what of a scene's own grid is lost on the way."""
    frame = gpd.read_parquet(path)
    times = frame["datetime"].dt.tz_localize(None)
    spans = pd.IntervalIndex.from_arrays(times, times, closed="both", name="datetime")
    plain = gpd.GeoDataFrame(
        {"id": frame["id"].to_numpy()},
        index=spans,
        geometry=frame.geometry.to_numpy(),
        crs=frame.crs,
    )
    return len(plain.to_crs(frame["proj:code"].mode()[0]).sort_index())


RULES = {"min_gap": 5.0, "max_gap": 400.0, "max_cloud": 60.0, "same_season": 45.0}
DRAWN = 100_000


def pairs_ours(path: str) -> int:
    """Pairs under rules, every place with the same chance."""
    from rscontrast.stac import pair_items, read_items

    items = read_items(path, assets=False)
    begun = time.perf_counter()
    pairs = pair_items(items, tolerance="0s", **RULES).sample(drawn(len(items)))
    print(f"{time.perf_counter() - begun:.3f}", file=sys.stderr)
    return len(pairs)


def pairs_plain(path: str) -> int:
    """The same by a spatial join: a random date first, all that touch it, the rules, then one."""
    columns = ["id", "datetime", "eo:cloud_cover", "geometry"]
    items = gpd.read_parquet(path, columns=columns)
    begun = time.perf_counter()
    wanted, found = drawn(len(items)), []
    items["datetime"] = items["datetime"].dt.tz_localize(None)
    items = items[items["eo:cloud_cover"] <= RULES["max_cloud"]]
    while sum(map(len, found)) < wanted:
        # The whole join would hold a quarter of a billion rows.
        some = items.sample(min(wanted, 5_000), random_state=len(found))
        joined = some.sjoin(items[["geometry"]])
        right = items.loc[joined["index_right"]]
        days = (right["datetime"].to_numpy() - joined["datetime"].to_numpy()) / np.timedelta64(
            1, "D"
        )
        rest = np.mod(days, 365.2425)
        keep = (days >= RULES["min_gap"]) & (days <= RULES["max_gap"])
        keep &= np.minimum(rest, 365.2425 - rest) <= RULES["same_season"]
        pre, post = joined[keep], right[keep]
        chosen = (
            pre.assign(row=np.arange(len(pre))).groupby("id", sort=False).sample(1, random_state=0)
        )
        pre, post = pre.loc[chosen.index], post.iloc[chosen["row"]]
        common = shapely.area(
            shapely.intersection(chosen.geometry.to_numpy(), post.geometry.to_numpy())
        )
        least = np.minimum(
            shapely.area(chosen.geometry.to_numpy()), shapely.area(post.geometry.to_numpy())
        )
        found.append(chosen[common >= 0.5 * least])
    print(f"{time.perf_counter() - begun:.3f}", file=sys.stderr)
    return min(wanted, sum(map(len, found)))


def drawn(items: int) -> int:
    """Pairs to draw: 100,000 of a million items, and as many to the item of fewer."""
    return min(DRAWN, items // 10)


def child(name: str, path: str) -> None:
    begun = time.perf_counter()
    count = JOBS[name](path)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB to GB
    print(json.dumps({"count": count, "seconds": seconds, "gb": peak}))


JOBS: dict[str, Callable[[str], int]] = {
    f.__name__: f
    for f in (search_ours, search_plain, index_ours, index_plain, pairs_ours, pairs_plain)
}


def fresh(name: str, path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Median of some processes; ``seconds`` are those of the whole process, start included."""
    runs = []
    for _ in range(options.repeat):
        drop_cache(path)
        begun = time.perf_counter()
        command = [sys.executable, __file__, "--child", name, str(path)]
        out = subprocess.run(command, capture_output=True, text=True, check=False)
        if out.returncode:
            raise SystemExit(out.stderr)
        runs.append(json.loads(out.stdout) | {"whole": time.perf_counter() - begun})
        if out.stderr:  # a part of the work that is timed alone
            runs[-1]["part"] = float(out.stderr)
    return {key: float(np.median([run[key] for run in runs])) for key in runs[0]}


def drop_cache(path: Path) -> None:
    """Ask the system to forget the file's pages: no rights are needed for one's own file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_search(path: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """Box, time and cloud, cold: from the start of the process to the items."""
    ours, plain = fresh("search_ours", path, options), fresh("search_plain", path, options)
    require_same("search", ours, plain)
    return [
        row("search, items found", ours["count"], "items"),
        row("search", ours["whole"], "s", 2.0),
        row("search, without the start of Python", ours["seconds"], "s"),
        row("search, geopandas", plain["whole"], "s"),
        row("search to geopandas", ours["whole"] / plain["whole"], "ratio", 1.0),
    ]


def measure_index(path: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """From the file to an index that TorchGeo takes, without one raster opened."""
    ours, plain = fresh("index_ours", path, options), fresh("index_plain", path, options)
    require_same("index", ours, plain)
    return [
        row("index", ours["whole"], "s", 30.0),
        row("index, peak memory", ours["gb"], "GB", 3.0),
        row("index, geopandas", plain["whole"], "s"),
        row("index, geopandas, peak memory", plain["gb"], "GB"),
        row("index to geopandas", ours["whole"] / plain["whole"], "ratio", 1.0),
    ]


def measure_pairs(path: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """Random pairs under rules, from items in memory; and with reading them, from the start."""
    ours, plain = fresh("pairs_ours", path, options), fresh("pairs_plain", path, options)
    require_same("pairs", ours, plain)
    return [
        row("pairs drawn", ours["count"], "pairs"),
        row("pairs", ours["part"], "s", 10.0),
        row("pairs, with the start and reading", ours["whole"], "s"),
        row("pairs, peak memory", ours["gb"], "GB"),
        row("pairs, geopandas", plain["part"], "s"),
        row("pairs to geopandas", ours["part"] / plain["part"], "ratio", 1.0),
    ]


MEASURES = (measure_search, measure_index, measure_pairs)


def require_same(what: str, ours: dict[str, float], plain: dict[str, float]) -> None:
    if ours["count"] != plain["count"]:
        raise SystemExit(f"{what}: {ours['count']:.0f} items against {plain['count']:.0f}")


def row(name: str, value: float, unit: str, bound: float | None = None) -> dict[str, object]:
    holds = None if bound is None else value < bound
    return {"name": name, "value": value, "unit": unit, "bound": bound, "holds": holds}


def table(rows: list[dict[str, object]]) -> str:
    lines = [f"{'figure':36} {'value':>12} {'unit':6} {'bound':>6}  holds"]
    for one in rows:
        bound = "" if one["bound"] is None else f"{one['bound']:g}"
        holds = {None: "", True: "yes", False: "NO"}[one["holds"]]
        lines.append(f"{one['name']:36} {one['value']:12.3f} {one['unit']:6} {bound:>6}  {holds}")
    return "\n".join(lines) + "\n"


def settings(options: argparse.Namespace, path: Path) -> dict[str, object]:
    kept = {
        k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k != "child"
    }
    modules = (rscontrast, np, pd, gpd, pa, shapely)
    versions = {module.__name__: module.__version__ for module in modules}
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    cache = "pages of the file dropped by posix_fadvise before each process"
    return kept | versions | machine | {"bytes": path.stat().st_size, "cache": cache}


if __name__ == "__main__":
    main()
