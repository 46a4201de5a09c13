"""pystac-client's way to a STAC API, with our own requests under it.

pystac-client itself repeats no status and no POST, waits for ever, and ends at an empty page
even where a next one is linked.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urljoin

import pystac
from pystac_client import Client
from pystac_client.errors import ClientTypeError
from pystac_client.stac_api_io import StacApiIO

from rscontrast.errors import CatalogError, InputError
from rscontrast.stac.sources.hrefs import absolute_member, href_of, links_of
from rscontrast.stac.sources.http import Http

WITH_BODY = ("POST", "PUT", "PATCH")


@dataclass(frozen=True)
class Step:
    """One request of a walk over pages."""

    url: str
    """Where."""
    method: str = "GET"
    """How."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Body, or the URL's query where the method has no body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the link asks to send along."""

    def ask(self, http: Http) -> Any:
        """Send it; gives the JSON that comes."""
        place = "body" if self.method in WITH_BODY else "params"
        given = {place: self.parameters} if self.parameters or place == "body" else {}
        return http.json(self.url, method=self.method, headers=self.headers, **given)

    def follow(self, page: Mapping[str, Any]) -> "Step | None":
        """Give the step to the page that this one links as next; None: it is the last.

        Raises:
            InputError: the link leads nowhere.
        """
        links = (link for link in links_of(page, self.url) if link.get("rel") == "next")
        link = next(links, None)
        if link is None:
            return None
        method = str(link.get("method") or "GET").upper()
        body = link.get("body") or {} if method in WITH_BODY else {}  # else the URL has it all
        headers = link.get("headers") or {}
        if link.get("merge"):
            body, headers = {**self.parameters, **body}, {**self.headers, **headers}
        href = href_of(link, self.url, "link 'next'")
        return Step(urljoin(self.url, href), method, body, headers)

    def key(self) -> str:
        """Text that is the same for the same request."""
        return json.dumps([self.url, self.method, self.parameters], sort_keys=True)


class Pages(StacApiIO):
    """Requests of pystac-client, by our client; pages that are whole, or an error with a number."""

    def __init__(self, http: Http) -> None:
        super().__init__(max_retries=None)
        self._http = http

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Send what pystac-client asks for; gives the text of the JSON that comes.

        Raises:
            CatalogError: it cannot be had.
        """
        step = Step(href, (method or "GET").upper(), parameters or {}, headers or {})
        return json.dumps(step.ask(self._http))

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Walk over the pages of items or of collections, empty ones included.

        Raises:
            CatalogError: a page cannot be had, is no page, or leads back to one before it; names
                its number, from 1.
        """
        step = Step(url, (method or "GET").upper(), parameters or {})
        asked: set[str] = set()
        for number in count(1):
            where = f"page {number} of {url}"
            if step.key() in asked:
                raise CatalogError(f"{where}: its link leads back to an earlier page ({step.url})")
            asked.add(step.key())
            try:
                page = step.ask(self._http)
                _check(page, where)
                if "features" in page:
                    page["features"] = [absolute_member(i, step.url) for i in page["features"]]
                following = step.follow(page)
            except (CatalogError, InputError) as error:
                raise CatalogError(f"{where}: {error}") from error.__cause__
            yield page
            if following is None:
                return
            step = following


def _check(page: Any, where: str) -> None:
    """Refuse what is no page: an error under status 200 would pass for the end of the list."""
    if not isinstance(page, dict):
        raise CatalogError(f"{where}: no JSON object but a {type(page).__name__}")
    entries = page.get("features", page.get("collections"))
    if not isinstance(entries, list):
        raise CatalogError(f"{where}: neither features nor collections but {', '.join(page)}")
    if not all(isinstance(entry, dict) and "id" in entry for entry in entries):
        raise CatalogError(f"{where}: an entry without id")


def open_api(href: str, pages: Pages) -> Client:
    """Read the landing page of an API.

    Raises:
        CatalogError: it cannot be had, or is none.
    """
    try:
        client = Client.from_file(href, stac_io=pages)
    except (pystac.STACError, ClientTypeError, KeyError, TypeError) as error:
        raise CatalogError(f"{href}: no landing page of a STAC API ({error!r})") from error
    if client.get_single_link("search") is None:
        raise CatalogError(f"{href}: no STAC API that searches items: it links no `search`")
    return client
