"""Relations of CQL2 between times, geometries and arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from rscontrast.stac.conditions.comparison import as_time, compare, is_unknown, junction
from rscontrast.stac.conditions.operand import Items, Operator, Value, unknown

# a.start, a.end, b.start, b.end are 0, 1, 2, 3: all of the relations hold.
_TEMPORAL = {
    "t_after": ((0, ">", 3),),
    "t_before": ((1, "<", 2),),
    "t_contains": ((0, "<", 2), (1, ">", 3)),
    "t_during": ((0, ">", 2), (1, "<", 3)),
    "t_equals": ((0, "=", 2), (1, "=", 3)),
    "t_finishedBy": ((0, "<", 2), (1, "=", 3)),
    "t_finishes": ((0, ">", 2), (1, "=", 3)),
    "t_intersects": ((0, "<=", 3), (1, ">=", 2)),
    "t_meets": ((1, "=", 2),),
    "t_metBy": ((0, "=", 3),),
    "t_overlappedBy": ((0, ">", 2), (0, "<", 3), (1, ">", 3)),
    "t_overlaps": ((0, "<", 2), (1, ">", 2), (1, "<", 3)),
    "t_startedBy": ((0, "=", 2), (1, ">", 3)),
    "t_starts": ((0, "=", 2), (1, "<", 3)),
}
_SPATIAL = {
    "s_contains": shapely.contains,
    "s_crosses": shapely.crosses,
    "s_disjoint": shapely.disjoint,
    "s_equals": shapely.equals,
    "s_intersects": shapely.intersects,
    "s_overlaps": shapely.overlaps,
    "s_touches": shapely.touches,
    "s_within": shapely.within,
}
_ARRAY: dict[str, Callable[[Any, Any], bool]] = {
    "a_containedBy": lambda a, b: all(part in b for part in a),
    "a_contains": lambda a, b: all(part in a for part in b),
    "a_equals": lambda a, b: all(part in b for part in a) and all(part in a for part in b),
    "a_overlaps": lambda a, b: any(part in b for part in a),
}


def _temporal(op: str, values: Sequence[Value], items: Items) -> Value:
    ends = []
    for value in values:
        sides = value.data if value.kind == "interval" else [value, value]
        ends += [as_time(side, items) for side in sides]
    if is_unknown(op, ends, "time"):
        return unknown(items)
    terms = [compare(sign, [ends[a], ends[b]], items) for a, sign, b in _TEMPORAL[op]]
    return junction("and", terms, items)


def _temporal_disjoint(_op: str, values: Sequence[Value], items: Items) -> Value:
    return Value(pc.invert(_temporal("t_intersects", values, items).data), "truth")


def _spatial(op: str, values: Sequence[Value], items: Items) -> Value:
    if is_unknown(op, values, "geometry"):
        return unknown(items)
    left, right = (value.data for value in values)
    missing = shapely.is_missing(left) | shapely.is_missing(right)
    return truths(_SPATIAL[op](left, right), missing, items)


def truths(result: Any, missing: Any, items: Items) -> Value:
    """Answer of shapely as an operand; null where a geometry is missing."""
    if np.ndim(result):
        return Value(pa.array(result, pa.bool_(), mask=missing), "truth")
    return Value(items.scalar(pa.scalar(bool(result))), "truth")


def _array(op: str, values: Sequence[Value], items: Items) -> Value:
    if is_unknown(op, values, "array"):
        return unknown(items)
    pairs = zip(*(items.rows(value) for value in values), strict=False)
    results = [None if a is None or b is None else _ARRAY[op](a, b) for a, b in pairs]
    return Value(pa.array(results, pa.bool_()), "truth")


RELATIONS: dict[str, Operator] = {
    "t_disjoint": _temporal_disjoint,
    **dict.fromkeys(_TEMPORAL, _temporal),
    **dict.fromkeys(_SPATIAL, _spatial),
    **dict.fromkeys(_ARRAY, _array),
}
