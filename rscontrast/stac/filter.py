"""Conditions on the properties of items, in CQL2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Filter:
    """A condition on items."""

    tree: Mapping[str, Any]
    """CQL2 JSON."""
    text: str
    """CQL2 text."""
    fields: frozenset[str]
    """Names of the properties that it speaks of, as columns of the items' frame."""

    def mask(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell the rows that meet it."""
        raise NotImplementedError

    def to_arrow(self, schema: pa.Schema) -> pc.Expression | None:
        """Give what can be pushed down to Arrow."""
        raise NotImplementedError

    def to_query(self) -> dict[str, Any] | None:
        """Give it as STAC `query`."""
        raise NotImplementedError


def read_filter(filter: str | Mapping[str, Any] | Filter | None) -> Filter | None:  # noqa: A002
    """Read a condition."""
    if filter is None or isinstance(filter, Filter):
        return filter
    raise NotImplementedError
