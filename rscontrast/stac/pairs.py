"""Temporal pairs: two acquisitions of one place, chosen by rules, as a table."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rscontrast.atomic import atomic_path
from rscontrast.errors import EmptySearchError, InputError
from rscontrast.stac.index import item_crs
from rscontrast.stac.rule import PairRule, time_delta
from rscontrast.types import PathOrStr

CLOUD = "eo:cloud_cover"
TIMES = ("pre_datetime", "post_datetime")
COLUMNS = ("pre_ids", "post_ids", *TIMES, "gap_days", "place", "collection")


def pair_items(
    items: gpd.GeoDataFrame,
    *,
    min_gap: float = 1.0,
    max_gap: float | None = None,
    max_cloud: float | None = None,
    min_overlap: float = 0.5,
    event: str | pd.Timestamp | None = None,
    relation: str = "any",
    max_per_place: int | None = None,
    tolerance: str = "1h",
    seed: int = 0,
) -> gpd.GeoDataFrame:
    """Pair the acquisitions of each place.

    Args:
        items: as :func:`rscontrast.stac.search` returns them.
        min_gap: least gap between the dates, days.
        max_gap: largest gap, days.
        max_cloud: largest ``eo:cloud_cover`` of either acquisition, percent.
        min_overlap: least share (0-1] of the smaller footprint that both have.
        event: when something happened; fills the column ``straddles_event``.
        relation: "any", "before", "after" or "straddle" (the event).
        max_per_place: keep at most so many pairs of a place, drawn by ``seed``.
        tolerance: adjacent items of one collection, CRS and platform within this time are one
            acquisition.
        seed: of the draw.

    Returns:
        one row a pair, EPSG:4326, deterministic: ``pre_ids``, ``post_ids`` (lists of item ids),
        ``pre_datetime``, ``post_datetime``, ``gap_days``, ``pre_cloud``, ``post_cloud``,
        ``overlap``, ``straddles_event``, ``place``, ``collection``; the geometry is the overlap.

    Raises:
        InputError: an argument out of range, or ``max_cloud`` where items carry no cloud cover.
        EmptySearchError: no pair is left; says which rule took the last ones.
    """
    rule = PairRule(min_gap, max_gap, event, relation)
    if not 0 < min_overlap <= 1:
        raise InputError("min_overlap", min_overlap, "a share above 0 and up to 1")
    if max_per_place is not None and max_per_place < 1:
        raise InputError("max_per_place", max_per_place, "1 or more")
    acquired = acquisitions(items, tolerance=tolerance)
    pairs = _overlapping(acquired, min_overlap)
    counts = [f"{len(pairs)} overlap by {min_overlap:g}"]
    pairs["straddles_event"] = rule.straddles(*_times(pairs))
    pairs = pairs[rule.allows(*_times(pairs))]
    counts.append(f"{len(pairs)} of these keep the gap and the relation to the event")
    if max_cloud is not None:
        pairs = _clear(pairs, max_cloud)
        counts.append(f"{len(pairs)} of these have at most {max_cloud:g} % cloud")
    if pairs.empty:
        raise EmptySearchError(f"no pair of {len(acquired)} acquisitions: {', '.join(counts)}")
    if max_per_place is not None:
        drawn = pairs.sample(frac=1, random_state=seed).groupby("place").head(max_per_place)
        pairs = drawn
    order = ["place", "pre_datetime", "post_datetime"]
    return pairs.sort_values(order, ignore_index=True)


def acquisitions(items: gpd.GeoDataFrame, *, tolerance: str = "1h") -> gpd.GeoDataFrame:
    """Join the adjacent items of one pass.

    Args:
        items: as :func:`rscontrast.stac.search` returns them.
        tolerance: largest difference in time between neighbours, a pandas time delta.

    Returns:
        one row an acquisition: ``ids``, ``datetime`` (of its first item, UTC without a zone),
        ``cloud`` (area-weighted mean, percent; NaN where an item does not say), ``collection``
        and the united footprint.

    Raises:
        InputError: ``tolerance`` is not a time.
    """
    limit = time_delta("tolerance", tolerance).to_timedelta64()
    times = items["datetime"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    series = pd.Series([_series(row) for row in items.to_dict("records")]).to_numpy()
    a, b = items.sindex.query(items.geometry, predicate="intersects")
    near = (np.abs(times[a] - times[b]) <= limit) & (series[a] == series[b])
    label = _components(len(items), a[near], b[near])
    # Degrees are good enough for weights: the parts of one acquisition lie side by side.
    area = shapely.area(items.geometry.to_numpy())
    table = pd.DataFrame(
        {
            "ids": items["id"].to_numpy(),
            "datetime": times,
            "collection": items["collection"].to_numpy(),
            "cloud": _column(items, CLOUD) * area,
            "area": area,
            "geometry": items.geometry.to_numpy(),
        }
    )
    joined = table.groupby(label, sort=False).agg(
        {
            "ids": list,
            "datetime": "min",
            "collection": "first",
            "cloud": lambda cloud: cloud.sum(skipna=False),
            "area": "sum",
            "geometry": lambda parts: shapely.union_all(parts.to_numpy()),
        }
    )
    joined["cloud"] /= joined.pop("area")
    frame = gpd.GeoDataFrame(joined, geometry="geometry", crs=items.crs)
    return frame.sort_values("datetime", kind="stable", ignore_index=True)


def _series(row: dict[str, Any]) -> str:
    """Items with the same collection, platform and CRS can be one acquisition."""
    return f"{row['collection']}|{row.get('platform')}|{item_crs(row)}"


def _overlapping(acquired: gpd.GeoDataFrame, min_overlap: float) -> gpd.GeoDataFrame:
    """All (earlier, later) acquisitions of a collection that share enough ground."""
    shapes, times = acquired.geometry.to_numpy(), acquired["datetime"].to_numpy()
    a, b = acquired.sindex.query(acquired.geometry, predicate="intersects")
    collection = acquired["collection"].to_numpy()
    later = (times[a] < times[b]) & (collection[a] == collection[b])
    a, b = a[later], b[later]
    common = shapely.intersection(shapes[a], shapes[b])
    smaller = np.minimum(shapely.area(shapes[a]), shapely.area(shapes[b]))
    overlap = shapely.area(common) / smaller
    enough = overlap >= min_overlap
    a, b = a[enough], b[enough]
    pre, post = acquired.iloc[a], acquired.iloc[b]
    return gpd.GeoDataFrame(
        {
            "pre_ids": pre["ids"].to_numpy(),
            "post_ids": post["ids"].to_numpy(),
            "pre_datetime": times[a],
            "post_datetime": times[b],
            "gap_days": (times[b] - times[a]) / np.timedelta64(1, "D"),
            "pre_cloud": pre["cloud"].to_numpy(),
            "post_cloud": post["cloud"].to_numpy(),
            "overlap": overlap[enough],
            "place": _components(len(acquired), a, b)[a],
            "collection": collection[a],
        },
        geometry=common[enough],
        crs=acquired.crs,
    )


def _clear(pairs: gpd.GeoDataFrame, max_cloud: float) -> gpd.GeoDataFrame:
    if not 0 <= max_cloud <= 100:
        raise InputError("max_cloud", max_cloud, "percent, 0 to 100")
    worst = np.maximum(pairs["pre_cloud"], pairs["post_cloud"])
    if worst.isna().any():
        allowed = f"None, since {worst.isna().sum()} pairs have items without {CLOUD}"
        raise InputError("max_cloud", max_cloud, allowed)
    return pairs[worst <= max_cloud]


def _components(count: int, a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.int32]:
    graph = coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(count, count))
    labels: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return labels


def _column(items: gpd.GeoDataFrame, name: str) -> NDArray[np.float64]:
    if name not in items:
        return np.full(len(items), np.nan)
    column: NDArray[np.float64] = pd.to_numeric(items[name]).to_numpy(dtype=np.float64)
    return column


def _times(pairs: gpd.GeoDataFrame) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
    return pairs["pre_datetime"].to_numpy(), pairs["post_datetime"].to_numpy()


def write_pairs(pairs: gpd.GeoDataFrame, path: PathOrStr) -> None:
    """Write a table of pairs as GeoParquet, whole or not at all.

    Raises:
        WriteError: the folder or the disk does not take it.
    """
    with atomic_path(Path(path)) as tmp:
        pairs.to_parquet(tmp)


def read_pairs(path: PathOrStr) -> gpd.GeoDataFrame:
    """Read what :func:`write_pairs` wrote.

    Raises:
        InputError: the file is missing, or lacks the columns of a table of pairs.
    """
    allowed = f"a GeoParquet of pairs, with the columns {', '.join(COLUMNS)}"
    try:
        pairs = gpd.read_parquet(path)
        named = set(COLUMNS) <= set(pairs)
        if not (named and all(pairs[time].dtype.kind == "M" for time in TIMES)):
            raise InputError("pairs", str(path), allowed)
        for column in ("pre_ids", "post_ids"):
            pairs[column] = [list(ids) for ids in pairs[column]]
    except InputError:
        raise
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise InputError("pairs", str(path), f"{allowed} ({error})") from error
    return pairs


def select_items(items: gpd.GeoDataFrame, pairs: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Rows of the items that the pairs name, in the items' order.

    An id is unique only within its collection, so that both are matched.

    Args:
        items: the search that the pairs were made of.
        pairs: a table of :func:`pair_items`.

    Raises:
        InputError: an item is not there, or the pairs are of more than one collection.
    """
    # Items without a collection are one collection too.
    collections = sorted(set(pairs["collection"].fillna("")))
    if len(collections) > 1:
        raise InputError("pairs", collections, "pairs of one collection")
    named = {name for ids in [*pairs["pre_ids"], *pairs["post_ids"]] for name in ids}
    found = items[items["collection"].fillna("").isin(collections) & items["id"].isin(named)]
    missing = sorted(named - set(found["id"]))
    if missing:
        raise InputError("pairs", missing[0], "pairs of the items given (same search)")
    return found
