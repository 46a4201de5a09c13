"""The native grid of each item: from its metadata, and only where they lack it from a file."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rscontrast.errors import GridError
from rscontrast.stac.items.cells import Stack, cells, objects, plain, signature, to_arrow
from rscontrast.stac.items.frame import missing
from rscontrast.stac.items.grids import Grids
from rscontrast.stac.provider import GENERIC, Provider
from rscontrast.stac.signing import Signer

if TYPE_CHECKING:  # importing it takes longer than a local search
    from odc.geo.geobox import GeoBox

WIDTHS = {"proj:shape": 2, "proj:transform": 6, "proj:bbox": 4}
"""How many numbers of each field count."""
CODES = ("proj:code", "proj:epsg", "proj:wkt2")
AT_A_TIME = 50_000
"""Items whose metadata are unpacked at a time."""

type Numbers = NDArray[np.float64]


def item_crs(item: Mapping[str, Any]) -> str:
    """CRS that an item names, itself or in its first asset that does; "" where none does.

    Args:
        item: a row of the items' frame (``assets``, ``proj:*``).
    """
    return next(filter(None, map(_code, (item, *item["assets"].values()))), "")


def _code(fields: Mapping[str, Any]) -> str:
    """``proj:code``, ``proj:epsg`` as it was before projection extension 2.0, or WKT; else ""."""
    for name in CODES:
        value: Any = fields.get(name)
        if not missing(value):
            return f"EPSG:{int(value)}" if name == "proj:epsg" else str(value)
    return ""


def native_geobox(
    item: Mapping[str, Any], asset_key: str, signer: Signer | None = None
) -> "GeoBox":
    """Grid of one asset: from the projection extension, else from the file's header.

    Args:
        item: a row of the items' frame (``assets``, ``proj:*``).
        asset_key: which asset.
        signer: who signs its link, where the file must be opened.

    Raises:
        AssetError: the metadata lack the grid and the file cannot be opened.
        GridError: neither the metadata nor the file has a CRS, or it is unknown.
    """
    row = {"id": str(item["id"]), "collection": None, "assets": item["assets"]}
    row |= {name: item.get(name) for name in (*WIDTHS, *CODES)}
    table = pd.DataFrame({name: objects([value]) for name, value in row.items()})
    keys = objects([asset_key])
    found, lacks = _told(table, keys)
    if len(lacks):
        from rscontrast.stac.items.headers import Header

        return Header(row["id"], asset_key, item["assets"][asset_key]["href"], signer).read()
    _require_known(found, table, keys)
    return found[0]


def grids(items: gpd.GeoDataFrame, band: str, provider: Provider = GENERIC) -> Grids:
    """Native grid of every item, of the asset that holds a band.

    No file is opened of items whose metadata tell it; the others' are, many at a time, each once
    in a process. :func:`complete_grids` writes down what they tell.

    Args:
        items: as :func:`rscontrast.stac.search` returns them.
        band: name of the band, or key of the asset.
        provider: where bands lie in the assets. Items of one collection that have the same
            assets are taken to have a band in the same one.

    Raises:
        BandError: an item lacks the band.
        AssetError: a file that must be opened cannot be.
        GridError: neither the metadata nor the file has a CRS, or it is unknown.
    """
    keys = asset_keys(items, band, provider)
    found, lacks = _told(items, keys)
    if len(lacks):
        found = _with(found, lacks, Grids.of(_opened(items, keys, lacks, provider)))
    _require_known(found, items, keys)
    return found


def complete_grids(
    items: gpd.GeoDataFrame, band: str, provider: Provider = GENERIC
) -> gpd.GeoDataFrame:
    """Fill in the grids that only files tell, so that they need not be opened again.

    Args:
        items: as :func:`rscontrast.stac.search` returns them.
        band: name of the band, or key of the asset.
        provider: where bands lie in the assets.

    Returns:
        the same items; assets whose files were opened have ``proj:code`` (or ``proj:wkt2``),
        ``proj:shape`` and ``proj:transform``.

    Raises:
        BandError, AssetError, GridError: see :func:`grids`.
    """
    keys = asset_keys(items, band, provider)
    _, lacks = _told(items, keys)
    column = items["assets"].to_numpy(dtype=object, copy=True)
    for row, box in zip(lacks, _opened(items, keys, lacks, provider), strict=True):
        assets = plain(column[row])
        assets[keys[row]] |= _fields(box)
        column[row] = assets
    return items.assign(assets=column)


def asset_keys(items: gpd.GeoDataFrame, band: str, provider: Provider) -> NDArray[np.object_]:
    """Key of the asset that holds a band, for each item, [N].

    Raises:
        BandError: an item lacks the band.
    """
    layout, firsts = layouts(items)
    rows = items.iloc[firsts].to_dict("records")
    keys = np.array([provider.band(row, band).asset for row in rows], dtype=object)
    return keys[layout]


def layouts(items: gpd.GeoDataFrame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group the items that are of one collection and have the same assets.

    Returns:
        number of each item's group, [N], and the row of each group's first item.
    """
    assets = items["assets"].to_numpy()
    stack = Stack.of(assets)
    marks = [signature(a) for a in assets] if stack is None else stack.signatures()
    table = pd.DataFrame({"collection": items["collection"].to_numpy(), "assets": marks})
    number = table.groupby(["collection", "assets"], dropna=False, sort=False).ngroup().to_numpy()
    return number, np.unique(number, return_index=True)[1]


def _told(items: gpd.GeoDataFrame, keys: NDArray[np.object_]) -> tuple[Grids, NDArray[np.intp]]:
    """Grids as the metadata tell them, and the rows for which they do not."""
    assets = items["assets"].to_numpy()
    stack, parts, lacks = Stack.of(assets), [], []
    for start in range(0, max(len(items), 1), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        few = None if stack is None else stack.take(part)
        found, lack = _told_some(items.iloc[part], keys[part], few)
        parts.append(found)
        lacks.append(lack + start)
    return Grids.join(parts), np.concatenate(lacks)


def _told_some(
    items: gpd.GeoDataFrame, keys: NDArray[np.object_], stack: Stack | None
) -> tuple[Grids, NDArray[np.intp]]:
    own = {name: _asset_field(items, stack, keys, name) for name in (*WIDTHS, *CODES)}
    shape, affine, bounds = (
        _first(_numbers(own[name], width), _numbers(_column(items, name), width))
        for name, width in WIDTHS.items()
    )
    affine = _affine(shape, affine, bounds)
    codes = _codes([own[name] for name in CODES])
    codes = np.where(codes == "", _codes([_column(items, name) for name in CODES]), codes)
    lacks = np.isnan(shape).any(axis=1) | np.isnan(affine).any(axis=1) | (codes == "")
    which, names = pd.factorize(codes)
    whole = np.where(np.isnan(shape), 0, shape).astype(np.int64)
    return Grids(tuple(names), which, whole, affine), np.flatnonzero(lacks)


def _column(items: gpd.GeoDataFrame, name: str) -> NDArray[np.object_]:
    if name not in items:
        return np.full(len(items), None)
    column: NDArray[np.object_] = items[name].to_numpy(dtype=object)
    return column


def _asset_field(
    items: gpd.GeoDataFrame, stack: Stack | None, keys: NDArray[np.object_], name: str
) -> NDArray[np.object_]:
    """A field of the asset that each item has under its key; None where there is none."""
    assets, out = items["assets"].to_numpy(), np.full(len(items), None)
    for key in pd.unique(keys):
        rows = np.flatnonzero(keys == key)
        column = None if stack is None else stack.take(rows).column(key, name)
        if column is None:
            out[rows] = objects(asset[key].get(name) for asset in assets[rows])
        elif column.null_count < len(column):
            out[rows] = cells(column) if pa.types.is_nested(column.type) else column.to_pylist()
    return out


def _numbers(values: NDArray[np.object_], width: int) -> Numbers:
    """The first numbers of each list, [N, width]; NaN where there is no list, or a shorter one."""
    out = np.full((len(values), width), np.nan)
    there = np.flatnonzero([not missing(value) and not isinstance(value, str) for value in values])
    if len(there):
        lists = to_arrow(list(values[there]))
        lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
        start, stop = (np.asarray(lists.offsets)[part] for part in (slice(-1), slice(1, None)))
        long = stop - start >= width
        numbers = lists.values.to_numpy(zero_copy_only=False).astype(np.float64)
        out[there[long]] = numbers[start[long, None] + np.arange(width)]
    return out


def _first(own: Numbers, other: Numbers) -> Numbers:
    """Rows of the one, where it has them whole; else of the other."""
    return np.where(np.isnan(own).any(axis=1, keepdims=True), other, own)


def _affine(shape: Numbers, affine: Numbers, bounds: Numbers) -> Numbers:
    """Transforms; where there is none, of north-up grids within the bounds."""
    rows, cols = shape.T
    xmin, ymin, xmax, ymax = bounds.T
    zero = np.zeros(len(shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (xmax - xmin) / cols, (ymax - ymin) / rows
    made = np.stack([x, zero, xmin, zero, -y, ymax], axis=1)
    return _first(affine, made)


def _codes(columns: Sequence[NDArray[np.object_]]) -> NDArray[np.object_]:
    """See :func:`_code`, of many."""
    out = np.full(len(columns[0]), "", dtype=object)
    for name, column in reversed(list(zip(CODES, columns, strict=True))):
        rows = np.flatnonzero(pd.notna(column))
        out[rows] = [_code({name: value}) for value in column[rows]]
    return out


def _opened(
    items: gpd.GeoDataFrame, keys: NDArray[np.object_], rows: NDArray[np.intp], provider: Provider
) -> "list[GeoBox]":
    from rscontrast.stac.items.headers import Header, read_headers

    ids, assets = items["id"].to_numpy(), items["assets"].to_numpy()
    return read_headers(
        [
            Header(str(ids[row]), keys[row], str(assets[row][keys[row]]["href"]), provider.signer)
            for row in rows
        ]
    )


def _with(found: Grids, rows: NDArray[np.intp], opened: Grids) -> Grids:
    """Put in what the files told."""
    which = np.arange(len(found))
    which[rows] = len(found) + np.arange(len(rows))
    return Grids.join([found, opened]).take(which)


def _require_known(found: Grids, items: gpd.GeoDataFrame, keys: NDArray[np.object_]) -> None:
    from odc.geo import CRSError

    for number, name in enumerate(found.names):
        rows = np.flatnonzero(found.crs == number)
        try:
            if len(rows):
                _ = found[int(rows[0])]
        except CRSError as error:
            where = f"item {items['id'].iloc[rows[0]]}, asset {keys[rows[0]]}"
            raise GridError(f"{where}: no CRS is {name!r}") from error


def _fields(box: "GeoBox") -> dict[str, Any]:
    """What the projection extension says of a grid."""
    crs: Any = box.crs  # that of a header is never None
    epsg = crs.to_epsg()
    named = {"proj:wkt2": crs.to_wkt()} if epsg is None else {"proj:code": f"EPSG:{epsg}"}
    return named | {"proj:shape": list(box.shape), "proj:transform": list(box.transform)[:6]}
