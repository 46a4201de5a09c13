"""What is asked of a source, read once at the border."""

from dataclasses import dataclass

import pandas as pd
from shapely.geometry.base import BaseGeometry

from rscontrast.stac.conditions.filter import Filter
from rscontrast.stac.conditions.period import FIRST, LAST


@dataclass(frozen=True)
class Query:
    """Conditions that an item must meet, all of them."""

    collections: tuple[str, ...] = ()
    """Ids of collections; empty: all."""
    area: BaseGeometry | None = None
    """Longitude and latitude, valid, within -180 to 180; the item touches it. None: anywhere."""
    start: pd.Timestamp = FIRST
    """First instant, UTC; an item of a period meets it if its period reaches into the query's."""
    end: pd.Timestamp = LAST
    """Last instant, UTC, included."""
    filter: Filter | None = None
    """Condition on the properties, in CQL2."""
    max_items: int | None = None
    """Keep the first so many by (datetime, id); None: all."""
