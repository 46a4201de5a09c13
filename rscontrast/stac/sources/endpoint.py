"""What of a query a server can be asked: each part as far as it conforms, the rest not at all."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from rscontrast.stac.conditions.filter import Filter
from rscontrast.stac.conditions.period import FIRST, LAST
from rscontrast.stac.conditions.query import Query

if TYPE_CHECKING:
    from pystac_client import Client

SORTBY = [
    {"field": "properties.datetime", "direction": "asc"},
    {"field": "id", "direction": "asc"},
]
COMPARISONS = frozenset({"eq", "neq", "lt", "lte", "gt", "gte"})
TOUCH = 1e-6
"""Degrees, a decimetre."""


@dataclass(frozen=True)
class Endpoint:
    """The address at which a STAC API searches items, and what it understands."""

    url: str
    """Address."""
    method: str
    """POST where the server offers it: a GET's URL has no room for a long aoi."""
    classes: frozenset[str]
    """URIs of the conformance classes."""

    @classmethod
    def of(cls, client: "Client") -> "Endpoint":
        """Read it from the landing page."""
        links = [link for link in client.links if link.rel == "search"]
        posts = [link for link in links if link.extra_fields.get("method") == "POST"]
        url = (posts or links)[0].get_absolute_href() or client.self_href
        return cls(url, "POST" if posts else "GET", frozenset(client.get_conforms_to()))

    @property
    def sorts(self) -> bool:
        """Whether it sorts items as it is asked to."""
        return self.conforms("item-search#sort")

    def conforms(self, name: str) -> bool:
        """Whether a class of this name is listed, in any version.

        pystac-client's own test knows version 1.0 only; servers list 1.1.
        """
        return any(uri.rstrip("/").endswith(f"/{name}") for uri in self.classes)

    def parameters(self, query: Query, limit: int) -> dict[str, Any]:
        """Make the parameters of a request for items; they ask for no less than the query.

        Args:
            query: conditions.
            limit: items a page.
        """
        from pystac_client import ItemSearch

        sort = SORTBY if query.max_items is not None and self.sorts else None
        parts = self._area(query.area) | self._filter(query.filter)
        names, times = list(query.collections) or None, _interval(query.start, query.end)
        asked: dict[str, Any] = ItemSearch(
            self.url,
            method=self.method,
            limit=limit,
            collections=names,
            datetime=times,
            sortby=sort,
            **parts,
        ).get_parameters()
        return asked

    def _area(self, area: BaseGeometry | None) -> dict[str, Any]:
        if area is None:
            return {}
        if self.method == "GET" or (area.area and area.equals(shapely.box(*area.bounds))):
            return {"bbox": _bbox(area)}
        return {"intersects": shapely.geometry.mapping(area)}

    def _filter(self, condition: Filter | None) -> dict[str, Any]:
        if condition is None or isinstance(condition.tree, bool):  # TRUE asks for nothing
            return {}
        if self.conforms("item-search#filter"):
            language = self._language()
            tree = language == "cql2-json"
            return {
                "filter": dict(condition.tree) if tree else condition.text,
                "filter_lang": language,
            }
        query = condition.to_query() if self.conforms("item-search#query") else None
        comparisons = _comparisons(query or {})
        return {"query": comparisons} if comparisons else {}

    def _language(self) -> str:
        """JSON in a body and text in a URL, unless the server lists only the other one."""
        known = ["cql2-json", "cql2-text"] if self.method == "POST" else ["cql2-text", "cql2-json"]
        listed = [name for name in known if self.conforms(f"conf/{name}")]
        return (listed or known)[0]


def _comparisons(query: dict[str, Any]) -> dict[str, Any]:
    """Terms that every server takes: to others, of the same extension, stac-fastapi answers 400."""
    kept = {
        name: {operator: value for operator, value in terms.items() if operator in COMPARISONS}
        for name, terms in query.items()
    }
    return {name: terms for name, terms in kept.items() if terms}


def _bbox(area: BaseGeometry) -> tuple[float, float, float, float]:
    """Bounds that have an area: in those of a point, pgstac finds nothing."""
    west, south, east, north = area.bounds
    if west == east:
        west, east = max(west - TOUCH, -180), min(east + TOUCH, 180)
    if south == north:
        south, north = max(south - TOUCH, -90), min(north + TOUCH, 90)
    return west, south, east, north


def _interval(start: pd.Timestamp, end: pd.Timestamp) -> str | None:
    """RFC 3339, to the second outwards: not every server reads fractions."""
    first = ".." if start < FIRST.ceil("s") else _text(start.floor("s"))
    last = ".." if end > LAST.floor("s") else _text(end.ceil("s"))
    return None if first == last == ".." else f"{first}/{last}"


def _text(time: pd.Timestamp) -> str:
    return str(time.isoformat()).replace("+00:00", "Z")
