"""One query, any source: what lies there becomes a GeoDataFrame of items."""

import re
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pandas as pd

from rscontrast.errors import EmptySearchError, InputError, choose, whole
from rscontrast.stac.conditions.area import AOI, read_aoi
from rscontrast.stac.conditions.filter import Filter, read_filter
from rscontrast.stac.conditions.period import FIRST, LAST, TOI, read_toi
from rscontrast.stac.conditions.query import Query
from rscontrast.stac.conditions.select import nothing_left, select
from rscontrast.stac.items.convert import read_frame
from rscontrast.stac.items.frame import complete
from rscontrast.stac.provider import GENERIC, PROVIDERS, Provider, read_provider
from rscontrast.stac.sources.api import api_items, is_api
from rscontrast.stac.sources.files import is_parquet
from rscontrast.stac.sources.hrefs import absolute, local_path
from rscontrast.stac.sources.http import Http
from rscontrast.stac.sources.parquet import count_left, scan
from rscontrast.stac.sources.static import Link, is_lines, read_document, start, walk
from rscontrast.types import PathOrStr

if TYPE_CHECKING:  # importing it takes longer than a local search
    import pystac

SOURCES = "a path, a URL, a provider's name, a GeoDataFrame, or a list of Items"

type Source = PathOrStr | gpd.GeoDataFrame | Iterable[Mapping[str, Any] | "pystac.Item"]


def search(
    source: Source,
    *,
    collections: Sequence[str] | None = None,
    aoi: AOI | None = None,
    toi: TOI | None = None,
    filter: str | Mapping[str, Any] | Filter | None = None,  # noqa: A002
    max_items: int | None = None,
    provider: Provider | str = GENERIC,
) -> gpd.GeoDataFrame:
    """Find STAC items; the result is the same whatever holds them.

    Args:
        source: path or URL of a STAC API, a static catalog or collection, Items (JSON, or one a
            line), or stac-geoparquet (a file or a folder); a name of a provider that has an
            endpoint; or items: a former result, pystac Items, dictionaries.
        collections: ids of the collections to keep (all by default).
        aoi: area of interest, see :func:`rscontrast.stac.conditions.area.read_aoi`; an item that
            touches it stays.
        toi: time of interest, see :func:`rscontrast.stac.conditions.period.read_toi`; an item of a
            period stays if the period reaches into it.
        filter: condition on the properties in CQL2, text or JSON, such as
            ``"eo:cloud_cover < 20"``.
        max_items: keep the first so many, by time.
        provider: whose headers and waits the requests have, see
            :func:`rscontrast.stac.provider.read_provider`; a provider named as ``source`` has its
            own.

    Returns:
        one row an item, EPSG:4326, by (time, id), in the stac-geoparquet schema: the fields of an
        Item and its properties are columns; times are UTC; hrefs are absolute. ``datetime`` is
        NaT where an item has a period only (see :func:`rscontrast.stac.index.instants`).

    Raises:
        InputError: the source is not there, an unknown collection or property, a bad argument;
            an item without a time or a footprint, or two items of one id that differ.
        CatalogError: a page or a file of the catalog cannot be read.
        EmptySearchError: nothing is left; says which condition took the last items.
    """
    first, last = (FIRST, LAST) if toi is None else read_toi(toi)
    query = Query(
        collections=_collections(collections),
        area=None if aoi is None else read_aoi(aoi),
        start=first,
        end=last,
        filter=read_filter(filter),
        max_items=None if max_items is None else whole("max_items", max_items),
    )
    publisher = read_provider(provider)
    if isinstance(source, str | PathLike):
        href = local_path(str(source))
        if "://" not in href and not Path(href).expanduser().exists():
            href, publisher = _endpoint(href, publisher)
        return _search_place(href, query, Http(publisher.policy, publisher.headers))
    if isinstance(source, gpd.GeoDataFrame):
        frame = _given(source)
    elif isinstance(source, Iterable) and not isinstance(source, Mapping | pd.DataFrame):
        frame = read_frame(map(_as_dict, source), source="items")
    else:
        raise InputError("source", type(source).__name__, SOURCES)
    for name in query.collections:
        choose("collections", name, set(frame["collection"].dropna()))
    return _select(frame, query, "the items given")


def _collections(collections: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(collections, str):
        raise InputError("collections", collections, f"a list of ids: [{collections!r}]")
    return tuple(collections or ())


def _endpoint(source: str, publisher: Provider) -> tuple[str, Provider]:
    """URL of a provider's API and the provider, where one is named; else what came."""
    if source not in PROVIDERS and not re.fullmatch(r"[\w.]+:\w+", source):
        return source, publisher
    named = read_provider(source)
    if not named.endpoint:
        raise InputError("source", source, "a path, a URL, or a provider that has an endpoint")
    return named.endpoint, named if publisher is GENERIC else publisher


def _search_place(href: str, query: Query, http: Http) -> gpd.GeoDataFrame:
    if is_parquet(href) or Path(href).expanduser().is_dir():
        frame = scan(href, query, http=http)
        if frame.empty:
            raise nothing_left(href, count_left(href, query, http))
        return select(frame, query, source=href)
    root = start(href)
    document = None if is_lines(root) else read_document(Link(root, ""), http)
    if document is not None and is_api(document):
        return select(
            read_frame(api_items(root, query, http=http), source=href), query, source=href
        )
    items = walk(root, http, collections=query.collections, document=document)
    return _select(read_frame(items, source=href), query, href)


def _select(frame: gpd.GeoDataFrame, query: Query, source: str) -> gpd.GeoDataFrame:
    if frame.empty:
        raise EmptySearchError(f"{source}: no item in it; name a source that has some")
    for field in sorted(query.filter.fields if query.filter else ()):
        choose("filter", field, set(frame))
    return select(frame, query, source=source)


def _given(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Bring a frame of items to the schema; one of a former search has it already."""
    lacks = sorted({"id", "datetime"} - set(frame))
    if lacks or frame.crs is None:
        got = f"a frame of the columns {', '.join(map(str, frame))}, CRS {frame.crs}"
        raise InputError("source", got, "items with id, datetime and a CRS, as search gives them")
    table = pd.DataFrame(frame.drop(columns=frame.geometry.name))
    return complete(table.assign(geometry=frame.geometry.to_numpy()), frame.crs)


def _as_dict(item: "Mapping[str, Any] | pystac.Item") -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    if not hasattr(item, "to_dict"):
        raise InputError("source", repr(item), SOURCES)
    return absolute(
        item.to_dict(transform_hrefs=False), item.get_self_href() or str(Path.cwd() / "item.json")
    )
