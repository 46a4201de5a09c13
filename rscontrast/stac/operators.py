"""Operators of CQL2 over operands; null is unknown, and unknown stays so as in SQL."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from rscontrast.errors import InputError
from rscontrast.stac.operand import TIME, Items, Kind, Value, typed, unknown

type Operator = Callable[[str, Sequence[Value], Items], Value]

_COMPARE = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": pc.add,
    "-": pc.subtract,
    "*": pc.multiply,
    "/": pc.divide,
    "^": pc.power,
    "div": lambda a, b: pc.trunc(pc.divide(a, b)),
    "%": lambda a, b: pc.subtract(a, pc.multiply(b, pc.trunc(pc.divide(a, b)))),
}
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
_TEXT: dict[str, Callable[[str], str]] = {
    "casei": str.casefold,
    "accenti": lambda text: "".join(
        letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter)
    ),
}


def instant(text: str, items: Items) -> Value:
    """Constant time; a date is its midnight, and a time without a zone is UTC, as in SQL.

    Raises:
        InputError: it is no ISO date or instant.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError("filter", text, f"an ISO date or instant ({error})") from error
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    return Value(items.scalar(pa.scalar(time, TIME)), "time")


def _time(value: Value, items: Items) -> Value:
    """A text read as a time: STAC's JSON has no other."""
    if value.kind != "text":
        return value
    if value.constant is not None:
        return instant(value.constant, items)
    try:
        times = pd.to_datetime(pd.Series(items.rows(value)), utc=True, format="ISO8601")
    except ValueError as error:
        raise InputError("filter", str(error), "properties that are times in ISO form") from error
    data = pa.array(times, from_pandas=True)
    return typed(data, data.type, items)


def _is_unknown(op: str, values: Iterable[Value], *kinds: Kind) -> bool:
    """Refuse operands of other kinds; tell whether one of them is null in every row."""
    found = {value.kind for value in values}
    if not found - {"null"} <= set(kinds):
        got = f"{op} of {' and '.join(sorted(found))}"
        raise InputError("filter", got, f"{op} of {' or '.join(kinds)}")
    return "null" in found


def _junction(op: str, values: Sequence[Value], items: Items) -> Value:
    _is_unknown(op, values, "truth")
    join = pc.and_kleene if op == "and" else pc.or_kleene
    return Value(reduce(join, [value.data for value in values]), "truth")


def _not(op: str, values: Sequence[Value], items: Items) -> Value:
    _is_unknown(op, values, "truth")
    return Value(pc.invert(values[0].data), "truth")


def _compare(op: str, values: Sequence[Value], items: Items) -> Value:
    if {value.kind for value in values} == {"text", "time"}:
        values = [_time(value, items) for value in values]
    kinds: tuple[Kind, ...] = ("number", "text", "time")
    if _is_unknown(op, values, *kinds, *(("truth",) if op in ("=", "<>") else ())):
        return unknown(items)
    left, right = values
    if left.kind != right.kind:
        allowed = "two operands of one kind; a text stands in '', a time in TIMESTAMP('')"
        raise InputError("filter", f"{left.kind} {op} {right.kind}", allowed)
    return Value(_COMPARE[op](left.data, right.data), "truth")


def _between(op: str, values: Sequence[Value], items: Items) -> Value:
    value, low, high = values
    sides = [_compare(">=", [value, low], items), _compare("<=", [value, high], items)]
    return _junction("and", sides, items)


def _in(op: str, values: Sequence[Value], items: Items) -> Value:
    value, members = values[0], values[1].data
    if value.kind == "text" and all(isinstance(member.constant, str) for member in members):
        found = pc.is_in(value.data, value_set=pa.array([m.constant for m in members], pa.string()))
        return Value(pc.if_else(pc.is_valid(value.data), found, unknown(items).data), "truth")
    never = Value(items.scalar(pa.scalar(False)), "truth")
    return _junction("or", [never, *(_compare("=", [value, m], items) for m in members)], items)


def _like(op: str, values: Sequence[Value], items: Items) -> Value:
    value, pattern = values
    if _is_unknown(op, [value], "text"):
        return unknown(items)
    regex = _regex(pattern.constant)
    return Value(pc.match_substring_regex(value.data, pattern=regex), "truth")


def _regex(pattern: str) -> str:
    """Regular expression of a LIKE pattern: % is any text, _ one letter, a backslash escapes."""
    parts = re.findall(r"\\.|[^\\]", pattern, re.DOTALL)
    if len("".join(parts)) < len(pattern):
        raise InputError("filter", pattern, r"a pattern without a lone \ at its end: write \\")
    wild = {"%": ".*", "_": "."}
    return rf"(?s)\A{''.join(wild.get(part) or re.escape(part[-1]) for part in parts)}\z"


def _is_null(op: str, values: Sequence[Value], items: Items) -> Value:
    data = values[0].data
    if values[0].kind == "geometry":
        return Value(_array(shapely.is_missing(data)), "truth")
    return Value(pc.is_null(data, nan_is_null=True), "truth")


def _arithmetic(op: str, values: Sequence[Value], items: Items) -> Value:
    if _is_unknown(op, values, "number"):
        return unknown(items)
    result = _ARITHMETIC[op](*(value.data.cast(pa.float64()) for value in values))
    # Where SQL would stop, as in a division by zero, the result is unknown.
    null = items.scalar(pa.scalar(None, pa.float64()))
    return Value(pc.if_else(pc.is_finite(result), result, null), "number")


def _text(op: str, values: Sequence[Value], items: Items) -> Value:
    (value,) = values
    if _is_unknown(op, values, "text"):
        return unknown(items)
    if value.constant is not None:
        constant = _TEXT[op](value.constant)
        return Value(items.scalar(pa.scalar(constant)), "text", constant)
    texts = [None if text is None else _TEXT[op](text) for text in items.rows(value)]
    return Value(pa.array(texts, pa.string()), "text")


def _temporal(op: str, values: Sequence[Value], items: Items) -> Value:
    ends = []
    for value in values:
        sides = value.data if value.kind == "interval" else [value, value]
        ends += [_time(side, items) for side in sides]
    if _is_unknown(op, ends, "time"):
        return unknown(items)
    terms = [_compare(sign, [ends[a], ends[b]], items) for a, sign, b in _TEMPORAL[op]]
    return _junction("and", terms, items)


def _temporal_disjoint(op: str, values: Sequence[Value], items: Items) -> Value:
    return _not("not", [_temporal("t_intersects", values, items)], items)


def _spatial(op: str, values: Sequence[Value], items: Items) -> Value:
    if _is_unknown(op, values, "geometry"):
        return unknown(items)
    left, right = (value.data for value in values)
    result, missing = (
        _SPATIAL[op](left, right),
        shapely.is_missing(left) | shapely.is_missing(right),
    )
    return Value(
        _array(result, missing) if result.ndim else items.scalar(pa.scalar(bool(result))), "truth"
    )


def _array(result: Any, missing: Any = None) -> pa.Array:
    return pa.array(result, pa.bool_(), mask=missing)


def _set(op: str, values: Sequence[Value], items: Items) -> Value:
    if _is_unknown(op, values, "array"):
        return unknown(items)
    pairs = zip(*(items.rows(value) for value in values), strict=False)
    results = [None if a is None or b is None else _ARRAY[op](a, b) for a, b in pairs]
    return Value(pa.array(results, pa.bool_()), "truth")


OPERATORS: dict[str, Operator] = {
    "and": _junction,
    "or": _junction,
    "not": _not,
    "between": _between,
    "in": _in,
    "like": _like,
    "isNull": _is_null,
    "t_disjoint": _temporal_disjoint,
    **dict.fromkeys(_COMPARE, _compare),
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    **dict.fromkeys(_TEMPORAL, _temporal),
    **dict.fromkeys(_SPATIAL, _spatial),
    **dict.fromkeys(_ARRAY, _set),
    **dict.fromkeys(_TEXT, _text),
}
"""Every operator and function of CQL2, by its name in CQL2 JSON."""
