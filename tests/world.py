"""Small self-describing catalogs: every pixel of their rasters says where it lies."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import mapping

from rscontrast.io import ItemSource
from rscontrast.stac.provider import GENERIC, BandSource, MaskSource

CORNER = (730_000.0, 5_100_000.0)


def grid(crs="EPSG:32632", res=10.0, corner=CORNER, shape=(64, 80)):
    """North-up grid with its upper left corner at ``corner``."""
    return GeoBox(shape, Affine.translation(*corner) @ Affine.scale(res, -res), crs)


def centres(geobox, crs=None):
    """(x, y) of every pixel centre in ``crs`` (default: the grid's own), [2, H, W]."""
    rows, cols = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
    x, y = geobox.transform @ (cols, rows)
    if crs is not None:
        x, y = Transformer.from_crs(str(geobox.crs), crs, always_xy=True).transform(x, y)
    return np.stack([x, y])


def offsets(geobox, crs=None):
    """:func:`centres` counted from CORNER, so that float32 holds them to the centimetre."""
    return centres(geobox, crs) - np.array(CORNER)[:, None, None]


def footprint(geobox):
    """Outline of a grid in longitude and latitude."""
    lonlat = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
    return shapely.transform(
        geobox.extent.geom, lambda xy: np.column_stack(lonlat.transform(*xy.T))
    )


def write_raster(path, pixels, geobox, *, crs=None, **profile):
    """Write [B, H, W] as a GeoTIFF with tiny blocks; ``crs=False`` leaves the CRS out."""
    options = {"driver": "GTiff", "tiled": True, "blockxsize": 16, "blockysize": 16} | profile
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        count=len(pixels),
        height=geobox.shape[0],
        width=geobox.shape[1],
        dtype=pixels.dtype,
        transform=geobox.transform,
        crs=None if crs is False else str(geobox.crs),
        **options,
    ) as raster:
        raster.write(pixels)
    return path


def encode(real, dtype, scale, offset, nodata):
    """Numbers that ``* scale + offset`` turns into ``real``; NaN becomes nodata."""
    number = (np.asarray(real) - offset) / scale
    number = np.round(number) if np.dtype(dtype).kind in "iu" else number
    return np.where(np.isnan(number), 0 if nodata is None else nodata, number).astype(dtype)


@dataclass
class World:
    """A folder of rasters, and the catalog over them."""

    folder: Path
    items: list[pystac.Item] = field(default_factory=list)

    def item(
        self,
        name,
        geobox,
        *,
        when="2022-01-01T10:00:00",
        bands=None,
        dtype="float32",
        nodata=None,
        scale=1.0,
        offset=0.0,
        stacked=False,
        version="1.1",
        extra=None,
        roles=None,
        properties=None,
        with_grid=True,
    ):
        """Write one item; ``bands`` maps names to real values (default: x and y offsets).

        ``extra`` maps further asset keys to integer rasters as they are, with ``roles``.
        """
        bands = bands or dict(zip("xy", offsets(geobox), strict=True))
        props = dict(properties or {})
        if with_grid:
            props["proj:code"] = str(geobox.crs)
            props["proj:shape"] = list(geobox.shape)
            props["proj:transform"] = list(geobox.transform)[:6]
        area = footprint(geobox)
        time = datetime.fromisoformat(when).replace(tzinfo=UTC)
        item = pystac.Item(name, mapping(area), list(area.bounds), time, props)
        pixels = {k: encode(v, dtype, scale, offset, nodata) for k, v in bands.items()}
        files = {"all": list(pixels)} if stacked else {key: [key] for key in pixels}
        for key, names in files.items():
            path = self.folder / name / f"{key}.tif"
            write_raster(path, np.stack([pixels[n] for n in names]), geobox, nodata=nodata)
            fields = _band_fields(version, names, scale, offset, nodata)
            item.add_asset(key, pystac.Asset(str(path), roles=["data"], extra_fields=fields))
        for key, raster in (extra or {}).items():
            path = write_raster(self.folder / name / f"{key}.tif", raster[None], geobox)
            item.add_asset(key, pystac.Asset(str(path), roles=(roles or {}).get(key)))
        self.items.append(item)
        return item

    def catalog(self, *, absolute=False):
        """Write the catalog's JSON and return its path."""
        root = pystac.Catalog("world", "self-describing")
        kind = pystac.CatalogType.ABSOLUTE_PUBLISHED if absolute else None
        extent = pystac.Extent(
            pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]])
        )
        collection = pystac.Collection("tests", "rasters of the tests", extent)
        collection.add_items(self.items)
        root.add_child(collection)
        root.normalize_hrefs(str(self.folder / "stac"))
        root.save(kind or pystac.CatalogType.SELF_CONTAINED)
        return self.folder / "stac" / "catalog.json"


def _band_fields(version, names, scale, offset, nodata):
    facts = {} if nodata is None else {"nodata": nodata}
    if version == "1.1":
        scales = {"raster:scale": scale, "raster:offset": offset}
        return {"bands": [{"name": n, "eo:common_name": f"c_{n}"} | facts | scales for n in names]}
    return {
        "eo:bands": [{"name": n, "common_name": f"c_{n}"} for n in names],
        "raster:bands": [{"scale": scale, "offset": offset} | facts for _ in names],
    }


def item_row(item):
    """An item as a row of the items' frame."""
    assets = {key: asset.to_dict() for key, asset in item.assets.items()}
    return {"id": item.id, "collection": item.collection_id, "assets": assets, **item.properties}


def sources(item, *names):
    """Band sources of an item by name."""
    return tuple(GENERIC.band(item_row(item), name) for name in names)


def scene(item, *names):
    """ItemSource of an item, with whatever masks it has."""
    return ItemSource(sources(item, *names), GENERIC.masks(item_row(item)))


def source(path, **fields):
    """Band source of a lone file."""
    return BandSource(item="lone", asset="data", href=str(path), **fields)


def mask(path, **fields):
    """Mask of a lone file."""
    return MaskSource(item="lone", asset="mask", href=str(path), **fields)
