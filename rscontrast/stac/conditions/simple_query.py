"""STAC's `query` extension, which servers had before CQL2: comparisons that all hold."""

from collections.abc import Iterator
from typing import Any

_QUERY = {"=": "eq", "<>": "neq", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NO_PROPERTIES = {"id", "collection", "geometry", "bbox"}


def as_query(tree: Any) -> dict[str, Any] | None:
    """Give CQL2 JSON as `query`.

    Returns:
        conditions by property and operator; None where `query` cannot say it.
    """
    query: dict[str, dict[str, Any]] = {}
    for node in _terms(tree):
        name, conditions = _term(node) or ("", {})
        taken = query.setdefault(name, {})
        if not name or name in _NO_PROPERTIES or taken.keys() & conditions.keys():
            return None
        taken |= conditions
    return query


def _terms(tree: Any) -> Iterator[Any]:
    """Terms of a conjunction."""
    if isinstance(tree, dict) and tree.get("op") == "and":
        for part in tree["args"]:
            yield from _terms(part)
    else:
        yield tree


def _term(node: Any) -> tuple[str, dict[str, Any]] | None:
    """One comparison of a property with constants, as `query` says it."""
    match node:
        case {
            "op": "between",
            "args": [{"property": name}, int() | float() as low, int() | float() as high],
        }:
            return name, {"gte": low, "lte": high}
        case {"op": "in", "args": [{"property": name}, [*members]]}:
            constants = [_constant(member) for member in members]
            return None if None in constants else (name, {"in": constants})
        case {"op": "like", "args": [{"property": name}, str() as pattern]}:
            start = pattern.removesuffix("%")
            simple = start != pattern and not set(start) & set("%_\\")
            return (name, {"startsWith": start}) if simple else None
        case {"op": op, "args": [{"property": name}, other]} if op in _QUERY:
            constant = _constant(other)
            return None if constant is None else (name, {_QUERY[op]: constant})
        case {"op": op, "args": [other, {"property": name}]} if op in _QUERY:
            return _term({"op": _FLIPPED.get(op, op), "args": [{"property": name}, other]})
    return None


def _constant(node: Any) -> Any:
    match node:
        case bool() | int() | float() | str():
            return node
        case {"timestamp": text} | {"date": text}:
            return text
    return None
