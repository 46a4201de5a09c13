"""Other readers of the same pairs, each run by an interpreter that has it.

Only what the reader itself brings is imported: rasteret and stackstac hold back rasterio and
pandas, so they live in an environment of their own. One line of JSON comes in for each round of
pairs, one goes out with its seconds; see ``Peer`` in loader_readers.py.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

type Read = Callable[[dict], object]
"""Reads a pair as one array of all its pixels, in any order of dates and bands."""


def main() -> None:
    name, job = sys.argv[1], json.loads(sys.argv[2])
    read: Read = READERS[name](job)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        pairs = json.loads(line)
        begun = time.perf_counter()
        means = [float(_whole(read(pair), job).mean()) for pair in pairs]
        seconds = time.perf_counter() - begun
        print(json.dumps({"seconds": seconds, "mean": sum(means) / len(means)}), flush=True)


def _whole(pixels, job):
    if pixels.size != 2 * len(job["bands"]) * job["patch"] ** 2:
        raise ValueError(f"pixels of shape {pixels.shape}")
    return pixels


def odc_stac(job: dict) -> Read:
    from odc.stac import load

    items = _items(job)

    def read(pair: dict):
        loaded = load(
            [items[pair["pre"]], items[pair["post"]]],
            bands=job["bands"],
            geobox=_geobox(pair["bounds"], job),
            resampling="bilinear",
            groupby="time",
            pool=job["threads"],
        )
        return loaded.to_array().to_numpy()

    return read


def stackstac(job: dict) -> Read:
    import numpy as np
    from stackstac import stack

    items = _items(job)

    def read(pair: dict):
        lazy = stack(
            [items[pair["pre"]], items[pair["post"]]],
            assets=job["bands"],
            epsg=job["epsg"],
            resolution=job["res"],
            bounds=pair["bounds"],
            rescale=False,
            fill_value=np.uint16(0),
            dtype="uint16",
            xy_coords=False,
            chunksize=job["patch"],
        )
        return lazy.compute(scheduler="threads", num_workers=job["threads"]).to_numpy()

    return read


def xbatcher(job: dict) -> Read:
    """Its patches lie on a grid; each pair is one of a generator over the array from there on."""
    import dask
    from odc.stac import load
    from xbatcher import BatchGenerator

    items, size = _items(job), job["patch"]
    array = load(
        items.values(),
        bands=job["bands"],
        geobox=_geobox(job["bounds"], job),
        chunks={"x": job["block"], "y": job["block"]},
        groupby="time",
    ).to_array()
    number = {scene: n for n, scene in enumerate(sorted(items, key=lambda s: s[-8:]))}
    left, _, _, top = job["bounds"]

    def read(pair: dict):
        x, _, _, y = pair["bounds"]
        col, row = round((x - left) / job["res"]), round((top - y) / job["res"])
        dates = array.isel(time=[number[pair["pre"]], number[pair["post"]]])
        shifted = dates.isel(x=slice(col % size, None), y=slice(row % size, None))
        patches = BatchGenerator(shifted, {"y": size, "x": size})
        across = shifted.sizes["x"] // size
        # Dimensions are walked in the order asked for: y, then x.
        patch = patches[row // size * across + col // size]
        with dask.config.set(scheduler="threads", num_workers=job["threads"]):
            return patch.to_numpy()

    return read


def rasteret(job: dict) -> Read:
    import pyarrow as pa
    import rasteret
    import shapely
    from obstore.store import HTTPStore
    from rasteret.cloud import ObstoreBackend

    root, backend = job["root"], None
    if root.startswith("http://"):  # by itself it takes https only
        store = HTTPStore.from_url(root, client_options={"allow_http": True})
        backend = ObstoreBackend(store, url_prefix=f"{root}/")
    rows = [
        {
            "id": scene,
            "datetime": item.datetime,
            "geometry": shapely.box(*item.bbox).wkb,
            "assets": {key: {"href": asset.href} for key, asset in item.assets.items()},
            "collection": "scenes",
            "proj:epsg": job["epsg"],
        }
        for scene, item in _items(job).items()
    ]
    collection = rasteret.build_from_table(
        pa.Table.from_pylist(rows),
        enrich_cog=True,
        band_codes=job["bands"],
        data_source="scenes",
        backend=backend,
    )

    def read(pair: dict):
        return collection.read_window(
            record_ids=[pair["pre"], pair["post"]],
            bounds=tuple(pair["bounds"]),
            res=(job["res"], job["res"]),
            bands=job["bands"],
            target_crs=job["epsg"],
            max_concurrent=job["threads"],
            backend=backend,
            group_by="id",
        )

    return read


READERS: dict[str, Callable[[dict], Read]] = {
    "odc-stac": odc_stac,
    "stackstac": stackstac,
    "xbatcher": xbatcher,
    "rasteret": rasteret,
}


def _items(job: dict):
    """STAC items by name of the scene, complete as those of the catalog are."""
    import pystac

    items = {}
    for scene in job["scenes"]:
        when = datetime.strptime(scene["id"][-8:], "%Y%m%d").replace(hour=10, tzinfo=UTC)
        box, properties = scene["bbox"], scene["properties"]
        item = pystac.Item(scene["id"], _ring(box), box, when, properties)
        for key, href in scene["hrefs"].items():
            kind, facts = pystac.MediaType.COG, {"raster:bands": [{"nodata": 0}]}
            item.add_asset(key, pystac.Asset(href, media_type=kind, extra_fields=facts))
        items[scene["id"]] = item
    return items


def _ring(box: list[float]) -> dict:
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _geobox(bounds: list[float], job: dict):
    from odc.geo.geobox import GeoBox

    return GeoBox.from_bbox(bounds, f"EPSG:{job['epsg']}", resolution=job["res"])


if __name__ == "__main__":
    main()
