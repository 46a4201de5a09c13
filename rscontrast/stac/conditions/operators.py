"""Operators of CQL2 over operands; null is unknown, and unknown stays so as in SQL."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import shapely

from rscontrast.errors import InputError
from rscontrast.stac.conditions.comparison import COMPARE, compare, is_unknown, junction
from rscontrast.stac.conditions.operand import Items, Operator, Value, unknown
from rscontrast.stac.conditions.relations import RELATIONS, truths

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": pc.add,
    "-": pc.subtract,
    "*": pc.multiply,
    "/": pc.divide,
    "^": pc.power,
    "div": lambda a, b: pc.trunc(pc.divide(a, b)),
    "%": lambda a, b: pc.subtract(a, pc.multiply(b, pc.trunc(pc.divide(a, b)))),
}
_TEXT: dict[str, Callable[[str], str]] = {
    "casei": str.casefold,
    "accenti": lambda text: "".join(
        letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter)
    ),
}


def _not(op: str, values: Sequence[Value], _items: Items) -> Value:
    is_unknown(op, values, "truth")
    return Value(pc.invert(values[0].data), "truth")


def _between(_op: str, values: Sequence[Value], items: Items) -> Value:
    value, low, high = values
    sides = [compare(">=", [value, low], items), compare("<=", [value, high], items)]
    return junction("and", sides, items)


def _in(_op: str, values: Sequence[Value], items: Items) -> Value:
    value, members = values[0], values[1].data
    if value.kind == "text" and all(isinstance(member.constant, str) for member in members):
        found = pc.is_in(value.data, value_set=pa.array([m.constant for m in members], pa.string()))
        return Value(pc.if_else(pc.is_valid(value.data), found, unknown(items).data), "truth")
    never = Value(items.scalar(pa.scalar(False)), "truth")
    return junction("or", [never, *(compare("=", [value, m], items) for m in members)], items)


def _like(op: str, values: Sequence[Value], items: Items) -> Value:
    value, pattern = values
    regex = _regex(pattern.constant)
    if is_unknown(op, [value], "text"):
        return unknown(items)
    return Value(pc.match_substring_regex(value.data, pattern=regex), "truth")


def _regex(pattern: str) -> str:
    """Regular expression of a LIKE pattern: % is any text, _ one letter, a backslash escapes."""
    parts = re.findall(r"\\.|[^\\]", pattern, re.DOTALL)
    if len("".join(parts)) < len(pattern):
        raise InputError("filter", pattern, r"a pattern without a lone \ at its end: write \\")
    wild = {"%": ".*", "_": "."}
    return rf"(?s)\A{''.join(wild.get(part) or re.escape(part[-1]) for part in parts)}\z"


def _is_null(_op: str, values: Sequence[Value], items: Items) -> Value:
    data = values[0].data
    if values[0].kind == "geometry":
        return truths(shapely.is_missing(data), None, items)
    return Value(pc.is_null(data, nan_is_null=True), "truth")


def _arithmetic(op: str, values: Sequence[Value], items: Items) -> Value:
    if is_unknown(op, values, "number"):
        return unknown(items)
    result = _ARITHMETIC[op](*(value.data.cast(pa.float64()) for value in values))
    # Where SQL would stop, as in a division by zero, the result is unknown.
    null = items.scalar(pa.scalar(None, pa.float64()))
    return Value(pc.if_else(pc.is_finite(result), result, null), "number")


def _text(op: str, values: Sequence[Value], items: Items) -> Value:
    (value,) = values
    if is_unknown(op, values, "text"):
        return unknown(items)
    if value.constant is not None:
        constant = _TEXT[op](value.constant)
        return Value(items.scalar(pa.scalar(constant)), "text", constant)
    texts = [None if text is None else _TEXT[op](text) for text in items.rows(value)]
    return Value(pa.array(texts, pa.string()), "text")


OPERATORS: dict[str, Operator] = {
    "and": junction,
    "or": junction,
    "not": _not,
    "between": _between,
    "in": _in,
    "like": _like,
    "isNull": _is_null,
    **dict.fromkeys(COMPARE, compare),
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    **RELATIONS,
    **dict.fromkeys(_TEXT, _text),
}
"""Every operator and function of CQL2, by its name in CQL2 JSON."""
