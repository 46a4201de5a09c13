"""Conditions on the properties of items, in CQL2: read once, asked anywhere."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rscontrast.errors import InputError, choose
from rscontrast.stac.conditions.simple_query import as_query

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

_COUNTS = {"not": (1, 1), "isNull": (1, 1), "casei": (1, 1), "accenti": (1, 1)}
_COUNTS |= {"between": (3, 3), "and": (2, sys.maxsize), "or": (2, sys.maxsize)}
_OPERANDS: dict[str | tuple[str, ...], str] = {
    "between": "three numbers; of times write datetime >= ... AND datetime <= ...",
    ("like", "casei", "accenti"): "a text, and a pattern in ''",
    "in": "a value and a list of values, none of them NULL",
    ("and", "or", "not"): "conditions; of a true or false property write x = true",
    "t_": "times: datetime, TIMESTAMP('2022-08-01T00:00:00Z'), INTERVAL('2022-08-01', '..')",
    "s_": "geometries: geometry, BBOX(0, 0, 1, 1), POLYGON((...))",
    "a_": "arrays",
    ("+", "-", "*", "/", "%", "^", "div"): "numbers",
}
"""What operators take whose names begin so."""
_SIMPLEST: dict[str, Any] = {op: {"op": op, "args": [0, 0]} for op in (*"+-*/%^", "div")}
_SIMPLEST |= {op: {"op": op, "args": [""]} for op in ("casei", "accenti")}
"""Operations that are no conditions, at their simplest."""


COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")
OPERATIONS = (*COMPARISONS, "and", "or", "not", "isNull", "like", "between", "in")
"""Operations that are conditions."""
NESTED = 500
"""Brackets of a kind in a filter: the parser itself has no bound, and ends the process at some."""


@dataclass(frozen=True, eq=False)
class Filter:
    """A condition that an item meets or not; an unknown property meets no comparison."""

    tree: Mapping[str, Any] | bool
    """CQL2 JSON."""
    text: str
    """CQL2 text of the same."""
    fields: frozenset[str]
    """Columns of the items' frame that it speaks of."""

    def mask(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell the items that meet it, exactly.

        Args:
            frame: of items; a property without a column is null in every item.

        Returns:
            one truth a row.

        Raises:
            InputError: a property is of another kind than what it is compared with.
        """
        from rscontrast.stac.conditions.evaluate import matches

        try:
            return matches(self.tree, frame)
        except InputError as error:
            got = f"{error.got} in {self.text}"
            raise InputError("filter", got, error.allowed) from error

    def to_arrow(self, schema: "pa.Schema") -> "pc.Expression | None":
        """Give what a Parquet scan can tell of it: it keeps every item that :meth:`mask` keeps.

        Args:
            schema: of the file.

        Returns:
            None if there is nothing that a scan can tell.
        """
        from rscontrast.stac.conditions.evaluate import push_down

        return push_down(self.tree, schema)

    def to_query(self) -> dict[str, Any] | None:
        """Give it as STAC's `query` extension, for servers without CQL2.

        Returns:
            None where that cannot say it.
        """
        return as_query(self.tree)


def read_filter(filter: str | Mapping[str, Any] | Filter | None) -> Filter | None:  # noqa: A002
    """Read a condition and refuse whatever is wrong with it before it is asked of anyone.

    Args:
        filter: CQL2 as text ("eo:cloud_cover < 10"), as JSON or as JSON text.

    Raises:
        InputError: it is not CQL2, with the place; an unknown operator or function; operands of
            the wrong number or kind.
    """
    import cql2

    if filter is None or isinstance(filter, Filter):
        return filter
    tree = _parse(filter)
    _check(tree)
    tree = _plain(tree)
    text = cql2.parse_json(json.dumps(tree)).to_text()
    condition = Filter(tree, text, frozenset(_properties(tree)))
    # What no schema knows - days like 2022-02-30, 1 against 'x' - shows on an item of nothing.
    condition.mask(pd.DataFrame(index=[0]))
    return condition


def _parse(source: str | Mapping[str, Any]) -> Any:
    """CQL2 JSON as it was given, or of a text."""
    import cql2

    if isinstance(source, str) and max(map(source.count, "([{")) > NESTED:
        raise InputError("filter", f"{source[:40]}...", f"CQL2 with at most {NESTED} brackets")
    try:
        if isinstance(source, str) and not source.lstrip().startswith("{"):
            return cql2.parse_text(source).to_json()
        tree = json.loads(source) if isinstance(source, str) else dict(source)
        parsed = cql2.parse_json(json.dumps(tree)).to_json()
    except (cql2.ParseError, ValueError, TypeError, RecursionError) as error:
        raise InputError("filter", source, f"CQL2; {_place(str(error))}") from error
    if parsed != _flat(tree):  # the parser leaves out keys that it does not know
        raise InputError("filter", source, f"CQL2 JSON; this would be read as {json.dumps(parsed)}")
    return tree


def _flat(node: Any) -> Any:
    """The tree with a conjunction in a conjunction as one, as the parser has it; so with `or`."""
    if isinstance(node, list):
        return [_flat(part) for part in node]
    if not isinstance(node, dict):
        return node
    flat = {key: _flat(part) for key, part in node.items()}
    if flat.get("op") in ("and", "or"):
        parts = [
            part["args"] if isinstance(part, dict) and part.get("op") == flat["op"] else [part]
            for part in flat["args"]
        ]
        flat["args"] = [arg for part in parts for arg in part]
    return flat


def _place(error: str) -> str:
    """One line of the parser's error: of its picture of a text, the position."""
    line = error.strip().splitlines()[0]
    place = line.removeprefix("-->")
    return line if place == line else f"it goes wrong at line:column {place.strip()}"


def _operations(node: Any) -> Iterator[dict[str, Any]]:
    """Operations in a tree, the innermost first."""
    if isinstance(node, dict):
        for part in node.values():
            yield from _operations(part)
        if "op" in node:
            yield node
    elif isinstance(node, list):
        for part in node:
            yield from _operations(part)


def _check(tree: Any) -> None:
    """Refuse what CQL2 does not have.

    Raises:
        InputError: names the innermost operation that is wrong.
    """
    for node in _operations(tree):
        _check_operation(node)
    condition = isinstance(tree, dict) and "op" in tree and tree["op"] not in _SIMPLEST
    if not isinstance(tree, bool) and not condition:
        raise InputError("filter", json.dumps(tree), "a condition, such as eo:cloud_cover < 10")


def _check_operation(node: dict[str, Any]) -> None:
    from rscontrast.stac.conditions.operators import OPERATORS

    op, count = choose("filter", node["op"], OPERATORS), len(node["args"])
    least, most = _COUNTS.get(op, (2, 2))
    if not least <= count <= most:
        number = f"{least}" if least == most else f"{least} or more"
        raise InputError("filter", json.dumps(node), f"{number} operands of {op}, not {count}")
    if _is_plain(node):
        return
    # The schema tries every branch, so that its time grows with a power of the depth: it sees one
    # operation at a time, with the simplest of their kind for those in it.
    shallow = {"op": op, "args": _simplest(node["args"])}
    # It knows conditions only; that something is null is one, whatever it is.
    if not _is_valid({"op": "isNull", "args": [shallow]} if op in _SIMPLEST else shallow):
        raise InputError("filter", json.dumps(node), f"what CQL2 says of {op}: {_operands(op)}")


def _is_plain(node: dict[str, Any]) -> bool:
    """Whether an operation is right at sight: the schema takes longer than a search of a file."""
    match node:
        case {"op": "and" | "or" | "not", "args": args}:
            return all(isinstance(part, dict) and part.get("op") in OPERATIONS for part in args)
        case {"op": op, "args": [{"property": str(), **rest}, str() | int() | float() as value]}:
            finite = not isinstance(value, float) or math.isfinite(value)
            return op in COMPARISONS and not rest and finite
    return False


def _simplest(part: Any) -> Any:
    if isinstance(part, list):
        return [_simplest(member) for member in part]
    if not isinstance(part, dict) or "op" not in part:
        return part
    return _SIMPLEST.get(part["op"], {"op": "isNull", "args": [0]})


def _is_valid(tree: Any) -> bool:
    import cql2

    try:
        cql2.parse_json(json.dumps(tree)).validate()
    except (cql2.ValidationError, cql2.ParseError):  # an infinity is no JSON
        return False
    return True


def _operands(op: str) -> str:
    for prefixes, operands in _OPERANDS.items():
        if op.startswith(prefixes):
            return operands
    return "operands of one kind, and none of them NULL (isNull tests for that)"


def _plain(node: Any) -> Any:
    """The tree with whole numbers as such and "properties.x" as "x"."""
    match node:
        case {"property": name}:
            return {"property": name.removeprefix("properties.")}
        case dict():
            return {key: _plain(part) for key, part in node.items()}
        case list():
            return [_plain(part) for part in node]
        case float() if node.is_integer() and abs(node) < 2**53:
            return int(node)
    return node


def _properties(node: Any) -> set[str]:
    match node:
        case {"property": name}:
            return {name}
        case dict():
            return _properties(list(node.values()))
        case list():
            return {name for part in node for name in _properties(part)}
    return set()
