"""The least STAC API: pages of items, with or without the extensions; the host makes the links."""

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import shapely
from shapely.geometry import shape

from tests.stac.server import Reply, Request, reply

CORE = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "neq": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "in": lambda a, b: a in b,
}


class LightApi:
    """``Server(LightApi(items))``; ``asked`` holds the parameters of every search."""

    def __init__(
        self,
        items: Iterable[dict[str, Any]],
        *,
        extensions: Iterable[str] = (),
        post: bool = True,
        offset: bool = False,
        count: Callable[[int], int] | None = None,
        most: int = 10_000,
    ) -> None:
        self.items = sorted(items, key=lambda item: (item["collection"], item["id"]))
        self.collections = sorted({item["collection"] for item in self.items})
        self.classes = [*CORE, *(f"https://api.stacspec.org/v1.0.0/{e}" for e in extensions)]
        self.post, self.offset, self.count, self.most = post, offset, count, most
        self.asked: list[dict[str, Any]] = []
        self.before: Callable[[int], Reply | None] = lambda number: None
        """Called with the number of each search request, from 1, before it is answered."""

    def __call__(self, request: Request) -> Reply:
        base = f"http://{request.headers['Host']}"
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path in ("", "/"):
            return reply(self._landing(base))
        if parts.path == "/collections":
            return reply(self._collections(base, int(query.get("page", 0))))
        if parts.path.startswith("/collections/"):
            name = parts.path.split("/")[2]
            found = name in self.collections
            return reply({"id": name} if found else {"code": "NotFound"}, 200 if found else 404)
        if parts.path == "/search" and (self.post or request.method == "GET"):
            return self._search(base, request, query)
        return reply({"code": "NotFound"}, 404)

    def _landing(self, base: str) -> dict[str, Any]:
        link = {"rel": "search", "type": "application/geo+json", "href": f"{base}/search"}
        links = [{"rel": "data", "type": "application/json", "href": f"{base}/collections"}]
        links += [{**link, "method": "GET"}] + ([{**link, "method": "POST"}] if self.post else [])
        head = {"type": "Catalog", "id": "light", "stac_version": "1.0.0", "description": "least"}
        return {**head, "conformsTo": self.classes, "links": links}

    def _collections(self, base: str, page: int) -> dict[str, Any]:
        more = {"rel": "next", "href": f"{base}/collections?page={page + 1}"}
        return {
            "collections": [{"id": name} for name in self.collections[page : page + 1]],
            "links": [more] if page + 1 < len(self.collections) else [],
        }

    def _search(self, base: str, request: Request, query: dict[str, str]) -> Reply:
        asked = json.loads(request.body) if request.method == "POST" else _from_url(query)
        self.asked.append(asked)
        refusal = self.before(len(self.asked))
        if refusal is not None:
            return refusal
        limit = min(int(asked.get("limit", 10)), self.most)
        found = [item for item in self.items if _meets(item, asked)]
        for rule in reversed(asked.get("sortby", [])):
            name = rule["field"].removeprefix("properties.")
            found.sort(key=lambda item, n=name: _sort_key(item, n))
        rest = self._rest(found, asked.get("token"))
        if rest is None:
            return reply({"description": "this token is no more"}, 400)
        document: dict[str, Any] = {"type": "FeatureCollection", "features": rest[:limit]}
        if self.count:
            document["numberMatched"] = self.count(len(found))
        document["links"] = []
        if len(rest) > limit:
            done = len(found) - len(rest) + limit
            token = str(done) if self.offset else rest[limit - 1]["id"]
            document["links"] = [_next(base, request, query, asked, token)]
        return reply(document)

    def _rest(self, found: list[dict[str, Any]], token: str | None) -> list[dict[str, Any]] | None:
        if token is None:
            return found
        if self.offset:
            return found[int(token) :]
        ids = [item["id"] for item in found]
        return found[ids.index(token) + 1 :] if token in ids else None


def _sort_key(item: dict[str, Any], name: str) -> str:
    properties = item["properties"]
    return item[name] if name == "id" else properties[name] or properties["start_datetime"]


def _next(base: str, request: Request, query: Any, asked: Any, token: str) -> dict[str, Any]:
    if request.method == "GET":
        return {"rel": "next", "href": f"{base}/search?{urlencode(query | {'token': token})}"}
    body = {"token": token}
    return {"rel": "next", "href": "/search", "method": "POST", "body": body, "merge": True}


def _from_url(query: dict[str, str]) -> dict[str, Any]:
    asked: dict[str, Any] = dict(query)
    if "bbox" in asked:
        asked["bbox"] = [float(number) for number in query["bbox"].split(",")]
    if "collections" in asked:
        asked["collections"] = query["collections"].split(",")
    if "query" in asked:
        asked["query"] = json.loads(query["query"])
    if "sortby" in asked:
        asked["sortby"] = [{"field": f.lstrip("+ ")} for f in query["sortby"].split(",")]
    return asked


def _meets(item: dict[str, Any], asked: dict[str, Any]) -> bool:
    properties = item["properties"]
    area = shapely.box(*asked["bbox"]) if "bbox" in asked else None
    area = shape(asked["intersects"]) if "intersects" in asked else area
    start, end = asked.get("datetime", "../..").split("/")
    first = properties.get("start_datetime") or properties["datetime"]
    last = properties.get("end_datetime") or properties["datetime"]
    tests = [
        "collections" not in asked or item["collection"] in asked["collections"],
        area is None or shape(item["geometry"]).intersects(area),
        start == ".." or last >= start,
        end == ".." or first <= end,
    ]
    for name, rules in asked.get("query", {}).items():
        value = properties.get(name)
        tests += [value is not None and OPERATORS[op](value, v) for op, v in rules.items()]
    return all(tests)
