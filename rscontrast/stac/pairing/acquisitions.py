"""Adjacent scenes of one pass become one acquisition."""

from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from rscontrast.errors import InputError, choose
from rscontrast.stac.index import item_crs
from rscontrast.stac.items.frame import instants
from rscontrast.stac.pairing.tolerance import Tolerance

CLOUD = "eo:cloud_cover"
ORBITS = ("sat:relative_orbit", "landsat:wrs_path")
APART = 1000.0
"""Degrees by which the passes are moved apart, so that one tree of footprints serves them all."""

type Labels = NDArray[np.intp]


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
        InputError: ``tolerance`` is no time, or no item has a property of ``place``.
    """
    limit = Tolerance.read(tolerance)
    times = instants(items).dt.tz_localize(None).to_numpy("datetime64[us]")
    order = np.lexsort([items["id"].to_numpy(str), times])
    items, times = items.iloc[order], times[order]
    if place is None:
        names = np.full(len(items), "", dtype=object)
        label = _touching(items, times, limit)
    else:
        names = _names(items, [place] if isinstance(place, str) else place)
        label = _passes(codes(items["collection"].to_numpy(), names), times, limit)
    return _join(items, times, names, label, cloud)


def _names(items: gpd.GeoDataFrame, place: Sequence[str]) -> NDArray[np.object_]:
    for column in place:
        choose("place", column, map(str, items.columns))
        if items[column].isna().any():
            allowed = f"a property of every item; item {items['id'][items[column].isna()].iloc[0]}"
            raise InputError("place", column, f"{allowed} has none: leave such items out")
    columns = [items[column].astype(str) for column in place]
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
    series = codes(*(_text(items, name) for name in ("collection", "platform")), _crs(items),
                    _number(items, *ORBITS))  # fmt: skip
    run = _passes(series, times, limit)
    together = np.flatnonzero(np.bincount(run)[run] > 1)
    shapes = items.geometry.to_numpy()[together]
    bounds = shapely.bounds(shapes) + APART * run[together, None] * np.array([1, 0, 1, 0])
    boxes = shapely.box(*bounds.T)
    a, b = shapely.STRtree(boxes).query(boxes)
    a, b = a[a < b], b[a < b]
    near = limit.near(times[together[a]], times[together[b]])
    a, b = a[near], b[near]
    touch = shapely.intersects(shapes[a], shapes[b])
    return components(len(items), together[a[touch]], together[b[touch]])


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
    area = shapely.area(shapes)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.add.reduceat((values * area)[order], first)
        with np.errstate(invalid="ignore"):  # a footprint without an area has no mean
            return total / np.add.reduceat(area[order], first)

    sun = _sun(items)
    covered = _number(items, cloud)
    joined = gpd.GeoDataFrame(
        {
            "ids": _parts(items["id"].to_numpy(object)[order], first),
            "datetime": times[lead],
            "collection": items["collection"].to_numpy()[lead],
            "platform": _text(items, "platform")[lead],
            "cloud": mean(covered),
            "valid": mean(_valid(items, covered)),
            "orbit": _number(items, *ORBITS)[lead],
            "sun_elevation": sun[0][lead],
            "sun_azimuth": sun[1][lead],
            "name": names[lead],
        },
        geometry=_united(shapes[order], first),
        crs=items.crs,
    )
    return joined.iloc[np.argsort(lead)].reset_index(drop=True)


def _parts(values: NDArray[np.object_], first: Labels) -> list[list[str]]:
    ends = [*first[1:].tolist(), len(values)]
    listed = values.tolist()
    return [listed[start:end] for start, end in zip(first.tolist(), ends, strict=True)]


def _united(shapes: NDArray[np.object_], first: Labels) -> NDArray[np.object_]:
    united = shapes[first]
    sizes = np.diff(first, append=len(shapes))
    for group in np.flatnonzero(sizes > 1):
        united[group] = shapely.union_all(shapes[first[group] : first[group] + sizes[group]])
    return united


def _text(items: gpd.GeoDataFrame, name: str) -> NDArray[np.object_]:
    if name not in items:
        return np.full(len(items), "", dtype=object)
    text: NDArray[np.object_] = items[name].astype(object).where(items[name].notna(), "").to_numpy()
    return text


def _number(items: gpd.GeoDataFrame, *names: str) -> NDArray[np.float64]:
    """The first of the properties that an item has; NaN where it has none."""
    number = np.full(len(items), np.nan)
    for name in (name for name in names if name in items):
        values = pd.to_numeric(items[name]).to_numpy(np.float64, na_value=np.nan)
        number = np.where(np.isnan(number), values, number)
    return number


def _crs(items: gpd.GeoDataFrame) -> NDArray[np.object_]:
    """CRS of each item, "" where unknown; the assets are asked only where the item is silent."""
    epsg = _number(items, "proj:epsg")
    codes = _text(items, "proj:code")
    known = np.char.add("EPSG:", np.nan_to_num(epsg).astype(np.int64).astype(str)).astype(object)
    codes = np.where((codes == "") & ~np.isnan(epsg), known, codes)
    if "assets" in items:
        for silent in np.flatnonzero(codes == ""):
            codes[silent] = item_crs({"assets": items["assets"].iloc[silent]})
    return codes


def _valid(items: gpd.GeoDataFrame, cloud: NDArray[np.float64]) -> NDArray[np.float64]:
    """Usable share: as measured, else what missing data and clouds leave."""
    measured = _number(items, "valid_share")
    missing = _number(items, "s2:nodata_pixel_percentage")
    said = ~(np.isnan(cloud) & np.isnan(missing))
    left = (1 - np.nan_to_num(missing) / 100) * (1 - np.nan_to_num(cloud) / 100)
    return np.where(np.isnan(measured), np.where(said, left, np.nan), measured)


def _sun(items: gpd.GeoDataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Elevation and azimuth of the sun, degrees."""
    elevation = _number(items, "view:sun_elevation")
    zenith = _number(items, "s2:mean_solar_zenith")
    azimuth = _number(items, "view:sun_azimuth", "s2:mean_solar_azimuth")
    return np.where(np.isnan(elevation), 90 - zenith, elevation), azimuth
