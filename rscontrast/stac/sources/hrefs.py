"""Where links and assets lead: hrefs as they stand in a file or a page, made absolute."""

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

from rscontrast.errors import InputError

type Item = dict[str, Any]


def absolute(item: Any, base: str) -> Item:
    """Copy an item, its hrefs made absolute.

    Args:
        item: STAC Item.
        base: path or URL where it was read. Its own self link plays no part: in a catalog that
            was downloaded it leads to where the files were once.

    Raises:
        InputError: it is no Item, or a link or an asset of it has no href.
    """
    if not isinstance(item, Mapping) or not isinstance(item.get("properties"), Mapping):
        allowed = "STAC Items: GeoJSON features with an id and properties"
        raise InputError("source", base, allowed)
    where = f"{base}, item {item.get('id')!r}"
    assets = item.get("assets") or {}
    if not isinstance(assets, Mapping):
        raise InputError("source", where, f"assets by their keys, not {assets!r}")
    links = [
        _resolved(link, base, where, f"link {link.get('rel')!r}") for link in links_of(item, where)
    ]
    resolved = {key: _resolved(a, base, where, f"asset {key!r}") for key, a in assets.items()}
    return {**item, "links": links, "assets": resolved}


def _resolved(part: Any, base: str, where: str, name: str) -> dict[str, Any]:
    href = join(base, href_of(part, where, name))
    return {**part, "href": href}


def absolute_member(item: Any, place: str) -> Item:
    """Copy an item of a collection of items, its hrefs made absolute.

    Args:
        item: STAC Item, whose self link, where it is absolute, tells what its hrefs refer to.
        place: file or page that holds it among others.

    Raises:
        InputError: it is no Item, or a link or an asset of it has no href.
    """
    base = place
    for link in links_of(item, place) if isinstance(item, Mapping) else ():
        href = str(link.get("href"))
        if link.get("rel") == "self" and ("://" in href or Path(href).is_absolute()):
            base = join(place, href)
    return absolute(item, base)


def links_of(document: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    """Links of a document.

    Raises:
        InputError: they are no list of objects; names ``where`` they stand.
    """
    links = document.get("links") or []
    if not isinstance(links, list) or not all(isinstance(link, Mapping) for link in links):
        raise InputError("source", where, f"links as a list of objects, not {links!r}")
    return links


def href_of(part: Any, where: str, name: str) -> str:
    """Href of a link or an asset.

    Raises:
        InputError: it has none; names the part, and ``where`` it stands.
    """
    href = part.get("href") if isinstance(part, Mapping) else None
    if not isinstance(href, str) or not href:
        raise InputError("source", where, f"an href for {name}, not {part!r}")
    return href


def join(base: str, href: str) -> str:
    """Resolve ``href`` as it stands in the file or page ``base``."""
    if href.startswith("file://"):
        return local_path(href)
    if "://" in href or href.startswith(("data:", "/vsi")):
        return href
    if "://" in base:
        return urljoin(base, href)
    return os.path.normpath(Path(base).parent / href)


def local_path(href: str) -> str:
    """Path of a file:// URL; what is none comes back as it is."""
    return url2pathname(urlsplit(href).path) if href.startswith("file://") else href


def path_of(href: str) -> str:
    """Path in a URL; a local path as it is: "?" and "#" may be part of it."""
    return urlsplit(href).path if "://" in href else href
