"""Comparisons of operands: the terms that every other operator is made of."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import reduce

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rscontrast.errors import InputError
from rscontrast.stac.conditions.operand import TIME, Items, Kind, Value, typed, unknown

COMPARE = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
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


def as_time(value: Value, items: Items) -> Value:
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


def is_unknown(op: str, values: Iterable[Value], *kinds: Kind) -> bool:
    """Refuse operands of other kinds; tell whether one of them is null in every row."""
    found = {value.kind for value in values}
    if not found - {"null"} <= set(kinds):
        got = f"{op} of {' and '.join(sorted(found - {'null'}))}"
        raise InputError("filter", got, f"{op} of {' or '.join(kinds)}")
    return "null" in found


def junction(op: str, values: Sequence[Value], _items: Items) -> Value:
    """Conjunction or disjunction of one or more truths."""
    is_unknown(op, values, "truth")
    join = pc.and_kleene if op == "and" else pc.or_kleene
    return Value(reduce(join, [value.data for value in values]), "truth")


def compare(op: str, values: Sequence[Value], items: Items) -> Value:
    """Comparison of two operands of one kind; a text beside a time is read as a time."""
    if {value.kind for value in values} == {"text", "time"}:
        values = [as_time(value, items) for value in values]
    kinds: tuple[Kind, ...] = ("number", "text", "time")
    if is_unknown(op, values, *kinds, *(("truth",) if op in ("=", "<>") else ())):
        return unknown(items)
    left, right = values
    if left.kind != right.kind:
        allowed = "two operands of one kind; a text stands in '', a time in TIMESTAMP('')"
        raise InputError("filter", f"{left.kind} {op} {right.kind}", allowed)
    return Value(COMPARE[op](left.data, right.data), "truth")
