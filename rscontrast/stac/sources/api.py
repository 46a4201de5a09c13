"""Items of a STAC API, page by page; none comes twice, and none is lost on the way."""

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from rscontrast.errors import CatalogError, choose, whole
from rscontrast.stac.conditions.query import Query
from rscontrast.stac.conditions.select import conditions
from rscontrast.stac.items.convert import read_frame
from rscontrast.stac.items.frame import instants
from rscontrast.stac.sources.endpoint import Endpoint
from rscontrast.stac.sources.http import Http
from rscontrast.stac.sources.replies import status_of

if TYPE_CHECKING:  # importing it takes longer than a local search
    from pystac_client import Client

    from rscontrast.stac.sources.pages import Pages

PAGE = 500
LEAST = 30
"""A page that is too much for the server is not made smaller than this."""
TOO_MUCH = (413, 504)
"""Statuses that a smaller page may spare."""

type Item = dict[str, Any]


def is_api(document: Mapping[str, Any]) -> bool:
    """Whether a JSON document is the landing page of a STAC API that searches items."""
    links = document.get("links")
    return isinstance(links, list) and any(
        isinstance(link, Mapping) and link.get("rel") == "search" for link in links
    )


def api_items(href: str, query: Query, *, http: Http, page: int = PAGE) -> Iterator[Item]:
    """Ask a STAC API for the items of a query.

    Conditions that the server cannot take are left out, so more may come than the query means:
    apply it once more. No item comes twice. Between two pages items may be deleted, so that the
    link to the next page is dead or jumps over others; then the search is read again, until a
    reading is whole or brings nothing new. The same holds where fewer items came than the server
    had counted, but what the second reading does not find either is no error: it was deleted, or
    the count was an estimate.

    With ``max_items``, reading ends as soon as the first ones by time are there, if the server
    sorts; where items have a period in place of a datetime, its order of them is relied on.

    Args:
        href: the landing page.
        query: conditions.
        http: sends the requests.
        page: items asked for at once, from 1; a server may give fewer.

    Returns:
        items as the server gives them, in no order to rely on.

    Raises:
        InputError: an unknown collection; suggests a near name.
        CatalogError: a page that cannot be had: names its number and its URL.
    """
    from rscontrast.stac.sources.pages import Pages, open_api

    whole("page", page)
    pages = Pages(http)
    client = open_api(href, pages)
    _check_collections(client, query, pages, http)
    return _readings(Endpoint.of(client), query, pages, page)


def _check_collections(client: "Client", query: Query, pages: "Pages", http: Http) -> None:
    """Servers answer a search in an unknown collection with no items, as if all were well."""
    data = client.get_single_link("data")
    root = str(client.get_self_href()).rstrip("/")
    url = (data and data.get_absolute_href()) or f"{root}/collections"
    for name in query.collections:
        try:
            http.json(f"{url.rstrip('/')}/{quote(name, safe='')}")
        except CatalogError as error:
            if status_of(error) != 404:
                raise
            known = (entry["id"] for page in pages.get_pages(url) for entry in page["collections"])
            choose("collections", name, known)


def _readings(endpoint: Endpoint, query: Query, pages: "Pages", limit: int) -> Iterator[Item]:
    seen: set[tuple[Any, str]] = set()
    while True:
        before = len(seen)
        parameters = endpoint.parameters(query, limit)
        walk = pages.get_pages(endpoint.url, endpoint.method, parameters)
        first = First(query) if endpoint.sorts and query.max_items else None
        try:
            if (yield from _reading(walk, seen, first)) or len(seen) == before:
                return
        except CatalogError as error:
            if status_of(error) in TOO_MUCH and limit > LEAST:
                limit //= 4
            elif len(seen) == before:
                raise


def _reading(
    walk: Iterator[dict[str, Any]], seen: set[tuple[Any, str]], first: "First | None"
) -> Generator[Item, None, bool]:
    """Yield the items not seen yet; tells whether all that were counted came."""
    here: set[tuple[Any, str]] = set()
    promised = 0
    for page in walk:
        promised = max(promised, _counted(page))
        items = {_key(item): item for item in page["features"]}
        for key, item in items.items():
            if key not in seen:
                yield item
        if first is not None and first.come([i for key, i in items.items() if key not in here]):
            return True
        here.update(items)
        seen.update(items)
    return len(here) >= promised


def _key(item: Item) -> tuple[Any, str]:
    """Ids are unique within a collection only."""
    return item.get("collection"), item["id"]


def _counted(page: Mapping[str, Any]) -> int:
    """How many items match by the server's count; 0 where it gives none."""
    count = page.get("numberMatched", (page.get("context") or {}).get("matched"))
    return count if isinstance(count, int) else 0


class First:
    """Tells when the first items of a query by time have come from a server that sorts."""

    def __init__(self, query: Query) -> None:
        """Start before the first page."""
        self._query = query
        self._times: list[pd.Timestamp] = []
        self._last = pd.Timestamp.min.tz_localize("UTC")
        self._sorted = True

    def come(self, items: list[Item]) -> bool:
        """Take the new items of a page; whether any of a later page can be left unread.

        It can once a later time than that of the last one wanted is there: of one time, the
        order of the ids is ours to make. A server seen out of order is not believed any more.
        """
        if not items:
            return False
        frame = read_frame(items, source="a page")
        times = instants(frame)
        ordered = pd.concat([pd.Series([self._last]), times])
        self._sorted &= ordered.is_monotonic_increasing
        self._last = times.iloc[-1]
        for _, condition in conditions(self._query):
            frame = frame[condition(frame)]
        self._times += list(instants(frame))
        most = self._query.max_items or 0
        return self._sorted and len(self._times) >= most and self._times[most - 1] < self._last
