"""Whether rows of items are the same: told by Arrow where it can, decoded where it cannot."""

from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from rscontrast.stac.items.cells import Stack, decoded
from rscontrast.stac.items.frame import missing

type Mask = NDArray[np.bool_]

PLAIN = (str, int, float, bool, list, dict)


def alike(left: gpd.GeoDataFrame, right: gpd.GeoDataFrame) -> Mask:
    """Tell the rows that are surely the same; of the others only decoding tells.

    Args:
        left: items.
        right: as many, of the same columns.
    """
    same = np.ones(len(left), dtype=np.bool_)
    for name in left:
        same &= _alike(left[name], right[name])
    return same


def _alike(left: pd.Series, right: pd.Series) -> Mask:
    if left.dtype == "geometry":
        found: Mask = shapely.equals_identical(left.to_numpy(), right.to_numpy())
    elif left.dtype != object:
        left, right = left.reset_index(drop=True), right.reset_index(drop=True)
        equal = left.eq(right).fillna(False) | (left.isna() & right.isna())
        found = equal.to_numpy(dtype=np.bool_)
    else:
        found = _alike_objects(left.to_numpy(), right.to_numpy())
    return found


def _alike_objects(mine: Sequence[Any], other: Sequence[Any]) -> Mask:
    found = np.fromiter(map(_is_same, mine, other), np.bool_, len(mine))
    return np.ones_like(found) if not found.all() and _equal_columns(mine, other) else found


def _is_same(left: Any, right: Any) -> bool:
    if left is right or (missing(left) and missing(right)):
        return True
    return type(left) is type(right) and isinstance(left, PLAIN) and bool(left == right)


def _equal_columns(left: Sequence[Any], right: Sequence[Any]) -> bool:
    stacks = Stack.of(left), Stack.of(right)
    mine, other = (None if stack is None else stack.column() for stack in stacks)
    if mine is None or other is None:
        return False
    return bool(mine.cast(decoded(mine.type)).equals(other.cast(decoded(other.type))))


def same(left: Any, right: Any) -> bool:
    """Whether two values of JSON are equal; NaN, as of a ``nodata``, equals itself."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right) or (missing(left) and missing(right))
