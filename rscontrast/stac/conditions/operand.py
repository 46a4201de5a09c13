"""Operands of a filter: columns of a frame's rows, or of a schema before any row is read."""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, Literal, NamedTuple, Protocol

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import InputError

type Kind = Literal[
    "truth", "number", "text", "time", "interval", "array", "geometry", "other", "null"
]

# Microseconds as in stac-geoparquet: nanoseconds end in 2262, and open periods in 9999.
TIME = pa.timestamp("us", tz="UTC")


class Value(NamedTuple):
    """An operand."""

    data: Any
    """Arrow array, scalar or expression; shapely geometries; a list of operands."""
    kind: Kind
    """What it holds; "null" where it is unknown in every row."""
    constant: Any = None
    """Number or text that the filter spells out; None for a property."""


class NotPushedError(Exception):
    """An operation that Arrow's expressions do not have."""


class Items(Protocol):
    """What a filter is evaluated over."""

    def column(self, name: str) -> Value:
        """Property of the items."""

    def scalar(self, value: pa.Scalar) -> Any:
        """Constant."""

    def rows(self, value: Value) -> Iterable[Any]:
        """Operand as Python objects, one a row."""


class Rows:
    """The rows of a frame."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def column(self, name: str) -> Value:
        """Property; null where no item has it."""
        if name not in self._frame:
            return unknown(self)
        series = self._frame[name]
        if series.dtype == "geometry":
            return Value(gpd.GeoSeries(series).to_numpy(), "geometry")
        try:
            data = pa.array(series, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            got = f"{name}, which holds values of several types"
            raise InputError("filter", got, "properties of one type in all items") from error
        return typed(data, data.type, self)

    def scalar(self, value: pa.Scalar) -> pa.Scalar:
        """Constant as it is."""
        return value

    def rows(self, value: Value) -> Iterable[Any]:
        """Python objects, one a row."""
        if isinstance(value.data, list):
            return zip(*(self.rows(part) for part in value.data), strict=True)
        if isinstance(value.data, np.ndarray | BaseGeometry):
            raise InputError("filter", value.kind, "properties, numbers, texts and times")
        if isinstance(value.data, pa.Scalar):
            return repeat(value.data.as_py(), len(self._frame))
        values: list[Any] = value.data.to_pylist()
        return values


class Columns:
    """The columns of a schema."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def column(self, name: str) -> Value:
        """Property as a reference."""
        if self._schema.get_field_index(name) < 0:
            raise NotPushedError(name)
        return typed(pc.field(name), self._schema.field(name).type, self)

    def scalar(self, value: pa.Scalar) -> pc.Expression:
        """Constant as an expression."""
        return pc.scalar(value)

    def rows(self, value: Value) -> Iterable[Any]:
        """There are none before the scan."""
        raise NotPushedError(value.kind)


type Operator = Callable[[str, Sequence[Value], Items], Value]
"""Gives the result of an operator from its name and its operands."""


def unknown(items: Items) -> Value:
    """Operand that is null in every row."""
    return Value(items.scalar(pa.scalar(None, pa.bool_())), "null")


def typed(data: Any, kind: pa.DataType, items: Items) -> Value:
    """Tell the kind of a column by its Arrow type."""
    if pa.types.is_dictionary(kind):
        data, kind = data.cast(kind.value_type), kind.value_type
    if pa.types.is_null(kind):
        return unknown(items)
    if pa.types.is_boolean(kind):
        return Value(data, "truth")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return Value(data, "number")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Value(data, "text")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        fits = pa.types.is_timestamp(kind) and kind.tz is not None and kind.unit != "ns"
        return Value(data if fits else data.cast(TIME, safe=False), "time")
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return Value(data, "array" if lists else "other")
