"""CQL2 on columns of items, with the three-valued logic of SQL.

One evaluation serves twice: over the rows of a frame it computes Arrow arrays, over the columns of
a schema it builds the Arrow expression that a Parquet scan pushes down.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rscontrast.errors import InputError
from rscontrast.stac.conditions.area import read_aoi
from rscontrast.stac.conditions.comparison import instant
from rscontrast.stac.conditions.operand import Columns, Items, NotPushedError, Rows, Value
from rscontrast.stac.conditions.operators import OPERATORS


def matches(node: Any, frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell the rows of a frame for which a condition is true: neither false nor unknown.

    Raises:
        InputError: operands of the wrong kind, such as a number against a text.
    """
    data = evaluate(node, Rows(frame)).data
    if isinstance(data, pa.Scalar):
        return np.full(len(frame), data.as_py() is True)
    return np.asarray(pc.fill_null(data, False), dtype=np.bool_)


def push_down(node: Any, schema: pa.Schema) -> pc.Expression | None:
    """Give what Arrow can tell of a condition before rows are read: true wherever that is true.

    Returns:
        the terms of its conjunction that Arrow has; None if there are none.
    """
    if isinstance(node, dict) and node.get("op") == "and":
        terms = [push_down(term, schema) for term in node["args"]]
        pushed = [term for term in terms if term is not None]
        return reduce(pc.and_kleene, pushed) if pushed else None
    try:
        expression: pc.Expression = evaluate(node, Columns(schema)).data
    except (NotPushedError, InputError):  # what is wrong with it, `matches` says
        return None
    return expression


def evaluate(node: Any, items: Items) -> Value:
    """Evaluate valid CQL2 JSON over items."""
    match node:
        case bool():
            return Value(items.scalar(pa.scalar(node)), "truth", node)
        case int() | float():
            return Value(items.scalar(pa.scalar(node)), "number", node)
        case str():
            return Value(items.scalar(pa.scalar(node)), "text", node)
        case list():
            return Value([evaluate(part, items) for part in node], "array")
        case {"property": name}:
            return items.column(name)
        case {"timestamp": text} | {"date": text}:
            return instant(text, items)
        case {"interval": [start, end]}:
            return Value(
                [_side(start, datetime.min, items), _side(end, datetime.max, items)], "interval"
            )
        case {"op": op, "args": args}:
            return OPERATORS[op](op, [evaluate(arg, items) for arg in args], items)
    return Value(_geometry(node), "geometry")


def _side(node: Any, limit: datetime, items: Items) -> Value:
    """End of an interval; ".." leaves it open."""
    text = limit.replace(tzinfo=UTC).isoformat() if node == ".." else node
    return evaluate(text, items)


def _geometry(node: Mapping[str, Any]) -> Any:
    try:
        return read_aoi(node.get("bbox", node))
    except InputError as error:
        raise InputError("filter", error.got, error.allowed) from error
