"""Items of static files: catalogs are walked along their links, many files at a time."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rscontrast.errors import CatalogError, InputError, choose
from rscontrast.stac.sources.hrefs import (
    Item,
    absolute,
    absolute_member,
    href_of,
    join,
    links_of,
    local_path,
    path_of,
)
from rscontrast.stac.sources.http import Http

THREADS = 16
"""Files that are read at a time."""
LINES = (".ndjson", ".jsonl", ".geojsonl", ".geojsons")


@dataclass(frozen=True)
class Link:
    """A file to read."""

    href: str
    """Absolute path or URL."""
    by: str
    """The file that links it; "" for the one that was asked for."""


def walk(
    href: str,
    http: Http,
    *,
    collections: Sequence[str] = (),
    document: Mapping[str, Any] | None = None,
) -> Iterator[Item]:
    """Read the items of a catalog, a collection, an Item, an ItemCollection, or lines of Items.

    Each file is read once, however often it is linked. The order is that of the links, level by
    level, and does not depend on which file comes first.

    Args:
        href: absolute path, or URL, see :func:`start`.
        http: for what lies behind HTTP.
        collections: ids; items that other collections link are not read. Empty: all are.
        document: what lies at ``href``, where it has been read already.

    Returns:
        items whose links and assets have absolute hrefs.

    Raises:
        InputError: what lies there is no STAC, or a collection is unknown.
        CatalogError: a file cannot be read; names it and the file that links it.
    """
    known = set[str]()
    if is_lines(href):
        found = _lines(href, http)
    else:
        root = read_document(Link(href, ""), http) if document is None else document
        found = _linked(href, root, http, collections, known)
    for item in found:
        known.add(str(item.get("collection")))
        yield item
    for name in collections:
        choose("collections", name, known - {"None"})


def _linked(
    href: str,
    root: Mapping[str, Any],
    http: Http,
    collections: Sequence[str],
    known: set[str],
) -> Iterator[Item]:
    level, seen = [Link(href, "")], {href}
    documents: Iterator[Mapping[str, Any]] = iter([root])
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            while level:
                links: dict[str, Link] = {}
                for link, document in zip(level, documents, strict=True):
                    yield from items_of(document, link.href)
                    for further in _further(document, link.href, collections, known):
                        links.setdefault(further.href, further)
                level = [link for href, link in links.items() if href not in seen]
                seen |= set(links)
                documents = pool.map(lambda link: read_document(link, http), level)
        except CatalogError as error:
            raise CatalogError(f"{href}: {error}") from error
        finally:
            # After an error the files that wait in line are of no use.
            pool.shutdown(cancel_futures=True)


def start(href: str) -> str:
    """Find where to begin.

    Raises:
        InputError: a path that no file has.
    """
    href = local_path(href)
    if "://" in href:
        return href
    path = Path(href).expanduser().resolve()
    if not path.is_file():
        raise InputError("source", href, "the path or URL of STAC items or a catalog of them")
    return str(path)


def is_lines(href: str) -> bool:
    """Whether a name is that of a file with one Item a line."""
    return path_of(href).lower().endswith(LINES)


def read_document(link: Link, http: Http) -> Mapping[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: it is another kind of JSON.
        CatalogError: it cannot be read.
    """
    by = f", which {link.by} links," if link.by else ""
    try:
        if "://" in link.href:
            document = http.json(link.href)
        else:
            document = json.loads(Path(link.href).read_text(encoding="utf-8"))
    except InputError:
        raise
    except (OSError, ValueError) as error:  # CatalogError and JSON's own included
        # A file missing under a catalog would be a silent hole in every later result.
        raise CatalogError(f"{link.href}{by} cannot be read ({error})") from error
    if not isinstance(document, Mapping):
        allowed = f"a JSON object, not a {type(document).__name__}"
        raise InputError("source", link.href, allowed)
    return document


def items_of(document: Mapping[str, Any], href: str) -> list[Item]:
    """Items that a document is or holds, with absolute hrefs.

    Raises:
        InputError: it is no STAC.
    """
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = document.get("features") or []
        if not isinstance(features, list):
            raise InputError("source", href, f"features as a list, not {features!r}")
        return [absolute_member(item, href) for item in features]
    if kind == "Feature":
        item = absolute(document, href)
        if not any(link.get("rel") == "self" for link in item["links"]):
            item["links"].append({"rel": "self", "href": href, "type": "application/json"})
        return [item]
    # Catalogs before STAC 1.0 have no type.
    if kind in ("Catalog", "Collection") or (kind is None and "stac_version" in document):
        return []
    allowed = f"STAC: a Catalog, Collection, Feature or FeatureCollection, not {kind!r}"
    raise InputError("source", href, allowed)


def _further(
    document: Mapping[str, Any], href: str, collections: Sequence[str], known: set[str]
) -> list[Link]:
    """Files that a catalog or a collection links downwards."""
    wanted = {"child", "item"}
    if document.get("type") in ("Feature", "FeatureCollection"):
        return []
    if document.get("type") == "Collection" or "extent" in document:
        known.add(str(document.get("id")))
        if collections and document.get("id") not in collections:
            wanted = {"child"}
    links = [link for link in links_of(document, href) if link.get("rel") in wanted]
    return [Link(join(href, href_of(link, href, f"link {link['rel']!r}")), href) for link in links]


def _lines(href: str, http: Http) -> Iterator[Item]:
    for number, line in enumerate(_text(href, http), start=1):
        if not line.strip():
            continue
        try:
            yield absolute_member(json.loads(line), href)
        except ValueError as error:  # InputError included
            allowed = f"one Item as JSON ({error})"
            raise InputError("source", f"{href}, line {number}", allowed) from error


def _text(href: str, http: Http) -> Iterator[str]:
    if href.startswith(("http://", "https://")):
        yield from io.StringIO(http.text(href))
    elif "://" in href:
        yield from _far_text(href)
    else:
        try:
            with Path(href).open(encoding="utf-8") as file:
                yield from file
        except (OSError, UnicodeDecodeError) as error:
            raise CatalogError(f"{href}: cannot be read ({error})") from error


def _far_text(href: str) -> Iterator[str]:
    import fsspec

    try:
        with fsspec.open(href, "rt", encoding="utf-8") as file:
            yield from file
    except Exception as error:
        # fsspec passes on whatever its transports raise, of which there are many.
        reason = str(error) or type(error).__name__
        raise CatalogError(f"{href}: cannot be read ({reason})") from error
