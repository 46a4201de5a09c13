"""Adjacent scenes of one pass become one acquisition."""

from collections.abc import Callable, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from rscontrast.errors import EmptySearchError, InputError, choose
from rscontrast.stac.index import instants
from rscontrast.stac.items.frame import require_footprints, require_times
from rscontrast.stac.pairing.places import Labels, Shapes
from rscontrast.stac.pairing.properties import (
    CLOUD,
    ORBITS,
    crs_codes,
    number,
    sun,
    text,
    usable_share,
)
from rscontrast.stac.pairing.tolerance import Tolerance


def acquisitions(
    items: gpd.GeoDataFrame,
    *,
    tolerance: str | pd.Timedelta | Tolerance = "1h",
    place: str | Sequence[str] | None = None,
    cloud: str = CLOUD,
) -> gpd.GeoDataFrame:
    """Join the adjacent items of one pass.

    Items are of one pass if they have the same collection, platform, orbit and CRS, touch, and
    their times are within the tolerance; with ``place``, if they have the same collection and
    place and are within the tolerance.

    Args:
        items: as :func:`rscontrast.stac.search` returns them.
        tolerance: largest difference in time between neighbours ("1h"), or "day": one UTC day.
        place: properties that name a place, such as "grid:code".
        cloud: property with the cloud cover, percent.

    Returns:
        one row an acquisition, by time: ``ids``, ``datetime`` (of its first item, UTC without a
        zone), ``collection``, ``platform``, ``cloud`` (area-weighted mean, percent), ``valid``
        (share of usable ground, 0-1, as far as the metadata tell), ``orbit``, ``sun_elevation``
        and ``sun_azimuth`` (degrees), ``name`` (of the place, or ""), and the united footprint.
        NaN is what an item does not say.

    Raises:
        InputError: ``tolerance`` is no time, no item has a property of ``place``, or an item has
            no time or footprint.
        EmptySearchError: there is no item.
    """
    limit = Tolerance.read(tolerance)
    items = _whole(items)
    if cloud != CLOUD:
        choose("cloud", cloud, map(str, items.columns))
    times = instants(items).dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    order = _order(items, times)
    if (np.diff(order) != 1).any():  # a search gives them in this order
        items, times = items.iloc[order], times[order]
    if place is None:
        names = np.full(len(items), "", dtype=object)
        label = _touching(items, times, limit)
    else:
        names = _names(items, [place] if isinstance(place, str) else place)
        label = _passes(codes(items["collection"].to_numpy(), names), times, limit)
    return _join(items, times, names, label, cloud)


def _whole(items: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Items in degrees, each with a time and a footprint."""
    if not len(items):
        raise EmptySearchError("no item to pair: widen the search")
    require_times(items)
    require_footprints(items)
    if items.crs is None:
        raise InputError("items", "no CRS", "footprints with a CRS: items.set_crs('EPSG:4326')")
    return items if items.crs == "EPSG:4326" else items.to_crs("EPSG:4326")


def _order(items: gpd.GeoDataFrame, times: NDArray[np.datetime64]) -> Labels:
    """By time, collection and id, whatever the order that items come in."""
    columns = {"time": pa.array(times)}
    for name in ("collection", "id"):
        columns[name] = pa.array(text(items, name)).cast(pa.large_string())
    keys = [(name, "ascending") for name in columns]
    order: Labels = pc.sort_indices(pa.table(columns), sort_keys=keys).to_numpy().astype(np.intp)
    return order


def _names(items: gpd.GeoDataFrame, place: Sequence[str]) -> NDArray[np.object_]:
    if not place:
        raise InputError("place", place, "1 or more properties that name a place")
    for column in place:
        choose("place", column, map(str, items.columns))
        if items[column].isna().any():
            allowed = f"a property of every item; item {items['id'][items[column].isna()].iloc[0]}"
            raise InputError("place", column, f"{allowed} has none: leave such items out")
    # "/" stands between the parts of a name, so that one within a part is marked.
    columns = [
        items[column].astype(str).str.replace("\\", "\\\\").str.replace("/", "\\/")
        for column in place
    ]
    names: NDArray[np.object_] = columns[0].str.cat(columns[1:], sep="/").to_numpy(object)
    return names


def codes(*columns: NDArray[Any]) -> Labels:
    """Number the combinations of the columns' values in the order of their appearance, [N]."""
    code = np.zeros(len(columns[0]), dtype=np.intp)
    for column in columns:
        own, values = pd.factorize(column, use_na_sentinel=False)
        code = pd.factorize(code * len(values) + own)[0]
    return code


def _passes(series: Labels, times: NDArray[np.datetime64], limit: Tolerance) -> Labels:
    """Number the runs in time of each series."""
    order = np.lexsort([times, series])
    later = ~limit.near(times[order][:-1], times[order][1:])
    later |= series[order][:-1] != series[order][1:]
    label = np.empty(len(order), dtype=np.intp)
    label[order] = np.concatenate([[0], np.cumsum(later)])
    return label


def _touching(items: gpd.GeoDataFrame, times: NDArray[np.datetime64], limit: Tolerance) -> Labels:
    """Number the groups of items of one pass that touch."""
    series = codes(*(text(items, name) for name in ("collection", "platform")), crs_codes(items),
                    number(items, *ORBITS))  # fmt: skip
    run = _passes(series, times, limit)
    return touching(items.geometry.to_numpy(), run, lambda a, b: limit.near(times[a], times[b]))


def touching(
    shapes: Shapes, run: Labels, near: Callable[[Labels, Labels], NDArray[np.bool_]]
) -> Labels:
    """Number the groups of footprints of one run that touch.

    Args:
        shapes: footprints, [N].
        run: those of different runs are of different groups, [N].
        near: whether two footprints, given by their numbers, are near in time.
    """
    together = np.flatnonzero(np.bincount(run)[run] > 1)
    bounds = shapely.bounds(shapes[together])
    # The runs are moved apart, so that one tree of footprints serves them all.
    apart = 2 * np.ptp(bounds[:, [0, 2]]) + 1 if len(together) else 0.0
    boxes = shapely.box(*(bounds + apart * run[together, None] * np.array([1, 0, 1, 0])).T)
    a, b = shapely.STRtree(boxes).query(boxes)
    a, b = together[a[a < b]], together[b[a < b]]
    close = near(a, b)
    a, b = a[close], b[close]
    touch = shapely.intersects(shapes[a], shapes[b])
    return components(len(shapes), a[touch], b[touch])


def components(count: int, a: Labels, b: Labels) -> Labels:
    """Number the groups of ``count`` nodes that the edges (a, b) connect."""
    # Importing it takes a quarter of a local search.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(count, count))
    labels: Labels = connected_components(graph, directed=False)[1].astype(np.intp)
    return labels


def _join(
    items: gpd.GeoDataFrame,
    times: NDArray[np.datetime64],
    names: NDArray[np.object_],
    label: Labels,
    cloud: str,
) -> gpd.GeoDataFrame:
    order = np.argsort(label, kind="stable")
    first = np.flatnonzero(np.diff(label[order], prepend=-1))
    lead = order[first]  # the earliest item of each acquisition, since items come by time
    shapes = items.geometry.to_numpy()
    # Degrees are good enough for weights: the parts of one acquisition lie side by side.
    area = np.maximum(shapely.area(shapes), 1e-12)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(first) == len(values):
            return values[lead]
        total = np.add.reduceat((values * area)[order], first)
        share: NDArray[np.float64] = total / np.add.reduceat(area[order], first)
        return share

    elevation, azimuth = sun(items)
    covered = number(items, cloud)
    joined = gpd.GeoDataFrame(
        {
            "ids": _parts(items["id"].to_numpy(object)[order], first),
            "datetime": times[lead],
            "collection": items["collection"].to_numpy()[lead],
            "platform": text(items, "platform")[lead],
            "cloud": mean(covered),
            "valid": mean(usable_share(items, covered)),
            "orbit": number(items, *ORBITS)[lead],
            "sun_elevation": elevation[lead],
            "sun_azimuth": azimuth[lead],
            "name": names[lead],
        },
        geometry=_united(shapes[order], first),
        crs=items.crs,
    )
    if (np.diff(lead) > 0).all():
        return joined
    return joined.iloc[np.argsort(lead)].reset_index(drop=True)


def _parts(values: NDArray[np.object_], first: Labels) -> list[list[str]]:
    listed = values.tolist()
    if len(first) == len(listed):
        return [[value] for value in listed]
    ends = [*first[1:].tolist(), len(values)]
    return [listed[start:end] for start, end in zip(first.tolist(), ends, strict=True)]


def _united(shapes: NDArray[np.object_], first: Labels) -> NDArray[np.object_]:
    united = shapes[first]
    sizes = np.diff(first, append=len(shapes))
    for group in np.flatnonzero(sizes > 1):
        united[group] = shapely.union_all(shapes[first[group] : first[group] + sizes[group]])
    return united
