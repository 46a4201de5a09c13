"""A search of an API against plain Python over the same items, by a light and by a real server."""

import dataclasses
import json
import random
from collections import Counter
from contextlib import contextmanager

import pandas as pd
import pytest
import shapely
from shapely.geometry import shape

from rscontrast.errors import CatalogError, InputError
from rscontrast.stac.conditions.filter import Filter, read_filter
from rscontrast.stac.conditions.query import Query
from rscontrast.stac.sources.api import api_items, is_api
from rscontrast.stac.sources.http import Http, Policy
from tests.stac.generated import optical, radar
from tests.stac.light_api import LightApi
from tests.stac.proxy import Proxy, lasting, passing
from tests.stac.server import Reply, Server, cut, reply

QUICK = Policy(tries=3, connect=5, read=5, deadline=5, backoff=0.01, longest_backoff=0.05)
ITEMS = [*optical(150), *radar(90)]
AREA = shapely.Polygon([(-120, -60), (100, -50), (20, 65)])
BOX = shapely.box(-60, -40, 90, 50)


def utc(text):
    return pd.Timestamp(text, tz="UTC")


PERIOD = {"start": utc("2020-01-20"), "end": utc("2020-02-10T09:59:59.999999999")}
QUERIES = {
    "all": Query(),
    "collection": Query(collections=("radar",)),
    "box": Query(area=BOX),
    "polygon": Query(area=AREA),
    "point": Query(area=shape(ITEMS[3]["geometry"]).centroid),
    "two parts": Query(area=shapely.MultiPolygon([shapely.box(170, -80, 180, 80), BOX])),
    "period": Query(**PERIOD),
    "from": Query(start=utc("2020-02-01")),
    "until": Query(end=utc("2020-02-01")),
    "several": Query(collections=("optical", "radar"), area=AREA, **PERIOD),
    "nothing": Query(collections=("radar",), start=utc("2030-01-01")),
}


def times(item):
    own = item["properties"]
    first, last = own.get("start_datetime"), own.get("end_datetime")
    return pd.Timestamp(first or own["datetime"]), pd.Timestamp(last or own["datetime"])


def meets(item, query):
    first, last = times(item)
    return (
        (not query.collections or item["collection"] in query.collections)
        and (query.area is None or shape(item["geometry"]).intersects(query.area))
        and first <= query.end
        and last >= query.start
    )


def expected(items, query, condition=lambda properties: True):
    found = [i for i in items if meets(i, query) and condition(i["properties"])]
    found.sort(key=lambda item: (times(item)[0], item["id"]))
    return [item["id"] for item in found[: query.max_items]]


def ask(url, query=None, policy=QUICK):
    """Ids that came, in their order; fails where one came twice."""
    found = list(api_items(url, query or Query(), http=Http(policy)))
    ids = [item["id"] for item in found]
    assert max(Counter(ids).values(), default=1) == 1
    return found


def ids(found):
    return {item["id"] for item in found}


@contextmanager
def light(items=ITEMS, *, most=20, **options):
    api = LightApi(items, most=most, **options)
    with Server(api) as server:
        yield api, server


class TestQueries:
    @pytest.mark.parametrize("post", [True, False], ids=["POST", "GET"])
    @pytest.mark.parametrize("name", QUERIES)
    def test_equals_plain_python(self, name, post):
        query = QUERIES[name]
        with light(post=post) as (api, server):
            found = ask(server.url, query)
        ours = [item for item in found if meets(item, query)]
        assert ids(ours) == set(expected(ITEMS, query))
        assert len(ours) > 0 or name == "nothing"
        assert all(item in ITEMS for item in found)
        if post and query.end != PERIOD["end"]:  # which is sent to the second outwards
            assert len(found) == len(ours)
        assert len(api.asked) >= len(found) / 20
        searches = [r for r in server.requests if r.path.startswith("/search")]
        assert {r.method for r in searches} == {"POST" if post else "GET"}

    def test_what_is_sent(self):
        query = QUERIES["several"]
        with light() as (api, server):
            ask(server.url, query)
        sent = api.asked[0]
        assert sent["limit"] == 500
        assert sent["collections"] == ["optical", "radar"]
        assert shape(sent["intersects"]).equals(AREA)
        assert sent["datetime"] == "2020-01-20T00:00:00Z/2020-02-10T10:00:00Z"
        assert set(sent) == {"limit", "collections", "intersects", "datetime"}

    @pytest.mark.parametrize(
        ("times", "sent"),
        [
            ({"start": utc("2020-01-20T10:00:00.5")}, "2020-01-20T10:00:00Z/.."),
            ({"end": utc("2020-01-20T10:00:00.5")}, "../2020-01-20T10:00:01Z"),
            ({"start": pd.Timestamp.min.tz_localize("UTC")}, None),
            (
                {"start": utc("2020-01-20"), "end": utc("2020-01-20")},
                "2020-01-20T00:00:00Z/2020-01-20T00:00:00Z",
            ),
        ],
    )
    def test_period_is_sent_to_the_second_outwards(self, times, sent):
        with light() as (api, server):
            ask(server.url, Query(**times))
        assert api.asked[0].get("datetime") == sent

    @pytest.mark.parametrize("post", [True, False])
    def test_rectangle_is_sent_as_bbox(self, post):
        with light(post=post) as (api, server):
            ask(server.url, QUERIES["box"])
        assert api.asked[0]["bbox"] == list(BOX.bounds)
        assert "intersects" not in api.asked[0]


class TestCollections:
    def test_unknown_one_with_the_near_name(self):
        with light() as (api, server):
            with pytest.raises(InputError, match=r"collections: got 'optica'.*'optical'"):
                api_items(server.url, Query(collections=("radar", "optica")), http=Http(QUICK))
            assert api.asked == []

    def test_near_name_on_the_last_page_of_collections(self):
        with light() as (_, server), pytest.raises(InputError, match="did you mean 'radar'"):
            api_items(server.url, Query(collections=("rada",)), http=Http(QUICK))

    def test_name_is_quoted(self):
        with light() as (_, server), pytest.raises(InputError, match="a/b"):
            api_items(server.url, Query(collections=("a/b?c",)), http=Http(QUICK))
        assert "/collections/a%2Fb%3Fc" in [r.path for r in server.requests]


class TestFilter:
    filter = read_filter("eo:cloud_cover < 20")

    def sent(self, *extensions, post=True):
        with light(extensions=extensions, post=post) as (api, server):
            found = ask(server.url, Query(filter=self.filter))
        return api.asked[0], found

    def test_json_is_posted(self):
        sent, _ = self.sent("item-search#filter")
        assert sent["filter"] == self.filter.tree
        assert sent["filter-lang"] == "cql2-json"

    def test_text_is_got(self):
        sent, _ = self.sent("item-search#filter", post=False)
        assert sent["filter"] == self.filter.text
        assert sent["filter-lang"] == "cql2-text"

    def test_language_that_the_server_has(self):
        sent, _ = self.sent("item-search#filter", "conf/cql2-text")
        assert sent["filter"] == self.filter.text
        assert sent["filter-lang"] == "cql2-text"
        sent, _ = self.sent("item-search#filter", "conf/cql2-json", post=False)
        assert json.loads(sent["filter"]) == self.filter.tree

    @pytest.mark.parametrize("post", [True, False])
    def test_query_extension(self, post):
        sent, found = self.sent("item-search#query", post=post)
        assert sent["query"] == {"eo:cloud_cover": {"lt": 20}}
        below = [i for i in ITEMS if i["properties"].get("eo:cloud_cover", 100) < 20]
        assert ids(found) == ids(below)

    def test_what_the_query_extension_cannot_say(self):
        query = Query(filter=read_filter("eo:cloud_cover < 20 OR platform = 's1'"))
        with light(extensions=["item-search#query"]) as (api, server):
            assert ids(ask(server.url, query)) == ids(ITEMS)
        assert set(api.asked[0]) == {"limit"}

    def test_first_of_those_that_meet_what_was_not_sent(self):
        query = Query(filter=self.filter, max_items=9)
        with light(extensions=["item-search#sort"]) as (api, server):
            found = ask(server.url, query)
        below = [i for i in found if i["properties"].get("eo:cloud_cover", 100) < 20]
        first = expected(ITEMS, query, lambda own: own.get("eo:cloud_cover", 100) < 20)
        assert expected(below, query) == first
        assert len(api.asked) < len(ITEMS) / 20

    @pytest.mark.parametrize("truth", [True, False])
    def test_constant(self, truth):
        with light(extensions=["item-search#filter"]) as (api, server):
            ask(server.url, Query(filter=Filter(truth, str(truth).upper(), frozenset())))
        assert set(api.asked[0]) == {"limit"}

    def test_nothing_is_sent_to_a_server_that_takes_none(self):
        sent, found = self.sent()
        assert set(sent) == {"limit"}
        assert ids(found) == ids(ITEMS)


class TestPaging:
    @pytest.mark.parametrize("post", [True, False])
    def test_many_pages_are_one(self, post):
        with light(post=post, most=7) as (api, server):
            assert ids(ask(server.url)) == ids(ITEMS)
        assert len(api.asked) == -(-len(ITEMS) // 7)

    def test_same_id_in_two_collections_is_two_items(self):
        twins = [dict(ITEMS[0]), dict(ITEMS[0]) | {"collection": "other"}]
        with light(twins) as (_, server):
            assert len(list(api_items(server.url, Query(), http=Http(QUICK)))) == 2

    def test_page_that_overlaps_the_one_before(self):
        """Offsets, and an item that came in before the place already reached."""
        with light(offset=True, most=10) as (api, server):

            def insert(number):
                if number == 3:
                    new = {**ITEMS[0], "id": "optical-"}
                    api.items.insert(0, new)

            api.before = insert
            assert ids(ITEMS) <= ids(ask(server.url))

    def pages(self, *pages):
        """A server that serves these as its pages, whatever they are."""

        def answer(request):
            base = f"http://{request.headers['Host']}"
            if request.path == "/":
                api = LightApi(ITEMS, post=False)
                return api(request)
            number = int(request.path.partition("page=")[2] or 1)
            page = pages[number - 1]
            return page(base) if callable(page) else reply(page)

        return Server(answer)

    def test_empty_page_is_not_the_end(self):
        link = [{"rel": "next", "href": "/search?page=2"}]
        last = {"features": ITEMS[:3], "links": []}
        with self.pages({"features": [], "links": link}, last) as server:
            assert len(ask(server.url)) == 3

    def test_hrefs_are_absolute(self):
        own = {"rel": "self", "href": "/collections/c/items/a"}
        some = [ITEMS[0] | {"links": [own]}, dict(ITEMS[1])]
        some = [i | {"assets": {"x": {"href": "./x.tif"}}} for i in some]
        with self.pages({"features": some}) as server:
            found = ask(server.url)
        hrefs = [i["assets"]["x"]["href"] for i in found]
        assert hrefs == [f"{server.url}/collections/c/items/x.tif", f"{server.url}/x.tif"]
        assert found[0]["links"][0]["href"] == f"{server.url}/collections/c/items/a"

    @pytest.mark.parametrize("target", ["/search?page=2", "?page=2"])
    def test_circle_of_links(self, target):
        page = {"features": ITEMS[:2], "links": [{"rel": "next", "href": target}]}
        with self.pages(page, page) as server:
            with pytest.raises(CatalogError, match=r"page 3 of .*/search.*leads back"):
                ask(server.url)
            assert len(server.requests) < 12

    @pytest.mark.parametrize(
        "page",
        [
            [],
            {"error": "too busy"},
            {"features": None},
            {"features": [{"type": "Feature"}]},
            {"features": [3]},
            {"features": [], "links": [{"rel": "next", "href": "ftp://127.0.0.1/x"}]},
            {"features": [], "links": [{"rel": "next"}]},
            {"features": [], "links": [{"rel": "next", "href": None}]},
            {"features": [], "links": ["next"]},
            {"features": [ITEMS[0] | {"links": [3]}]},
            {"features": [ITEMS[0] | {"assets": {"x": {}}}]},
        ],
    )
    def test_what_is_no_page(self, page):
        first = {"features": ITEMS[:2], "links": [{"rel": "next", "href": "/search?page=2"}]}
        with self.pages(first, page) as server, pytest.raises(CatalogError, match=r"page [23] of"):
            ask(server.url)

    def test_page_that_is_too_much_is_asked_for_smaller(self):
        with light(most=1000) as (api, server):

            def refuse(_):
                much = api.asked[-1]["limit"] > 125
                return reply({"description": "response too large"}, 413) if much else None

            api.before = refuse
            assert ids(ask(server.url)) == ids(ITEMS)
            api.before = lambda _: reply({"description": "response too large"}, 413)
            with pytest.raises(CatalogError, match=r"page 1 of .*413.*response too large"):
                ask(server.url)


class TestDeletion:
    @pytest.mark.parametrize("post", [True, False])
    @pytest.mark.parametrize("offset", [True, False])
    def test_survivors_are_all_there(self, offset, post):
        """Offsets jump over items, tokens of deleted items are dead."""
        rng = random.Random(3)
        with light(most=10, offset=offset, post=post, count=lambda n: n) as (api, server):
            gone = set()

            def delete(number):
                if number in (2, 5, 9):
                    doomed = [api.items[10 * (number - 1) - 1], *rng.sample(api.items, 5)]
                    gone.update(item["id"] for item in doomed)
                    api.items = [item for item in api.items if item["id"] not in gone]

            api.before = delete
            found = ids(ask(server.url))
        assert len(gone) > 10
        assert ids(ITEMS) - gone <= found <= ids(ITEMS)

    @pytest.mark.parametrize("guess", [lambda n: 2 * n, lambda n: n // 2, lambda n: 0])
    def test_count_that_is_a_guess(self, guess):
        with light(count=guess) as (api, server):
            assert ids(ask(server.url)) == ids(ITEMS)
        assert len(api.asked) <= 2 * -(-len(ITEMS) // 20)


class TestFirst:
    @pytest.mark.parametrize("most", [1, 2, 7, 33, 1000])
    @pytest.mark.parametrize("sorts", [True, False])
    @pytest.mark.parametrize("name", ["all", "box", "several", "polygon"])
    def test_first_by_time(self, name, sorts, most):
        query = dataclasses.replace(QUERIES[name], max_items=most)
        with light(extensions=["item-search#sort"] if sorts else []) as (_, server):
            found = [item for item in ask(server.url, query) if meets(item, query)]
        assert expected(found, query) == expected(ITEMS, query)

    def test_reads_no_further_than_it_must(self):
        query = Query(max_items=5)
        with light(extensions=["item-search#sort"], most=10) as (api, server):
            ask(server.url, query)
        assert len(api.asked) == 1
        assert [rule["field"] for rule in api.asked[0]["sortby"]] == ["properties.datetime", "id"]
        with light(most=10) as (api, server):
            assert len(ask(server.url, query)) == len(ITEMS)
        assert "sortby" not in api.asked[0]

    def test_version_of_the_extension_does_not_matter(self):
        with light(most=10) as (api, server):
            api.classes.append("https://api.stacspec.org/v1.1.0/item-search#sort")
            ask(server.url, Query(max_items=5))
        assert len(api.asked) == 1

    def test_server_that_only_says_that_it_sorts(self):
        query = Query(max_items=5)
        with light(extensions=["item-search#sort"], most=10) as (api, server):
            api.before = lambda _: api.asked[-1].pop("sortby", None) and None
            found = ask(server.url, query)
        assert expected(found, query) == expected(ITEMS, query)

    def test_many_of_one_time_are_all_read(self):
        same = [dict(i) | {"properties": ITEMS[0]["properties"]} for i in ITEMS[:60]]
        with light(same, extensions=["item-search#sort"], most=10) as (_, server):
            assert len(ask(server.url, Query(max_items=5))) == 60


FAULTS = {
    "429": lambda r: reply({"detail": "slow down"}, 429, Retry_After="0"),
    "503": lambda r: reply({}, 503),
    "reset": lambda r: Reply(reset=True),
    "slow": lambda r: dataclasses.replace(r, drip=0.0001),
    "too slow": lambda r: dataclasses.replace(r, drip=0.5),
    "cut off": cut,
    "cut off, no length": lambda r: cut(r, length=False),
}


class TestFaults:
    @pytest.mark.parametrize("post", [True, False])
    def test_result_is_the_clean_one(self, post):
        faults = [fault for name, fault in FAULTS.items() if "slow" not in name]
        with light(post=post) as (_, server):
            proxy = Proxy(server.url, passing(*faults, times=2))
            with Server(proxy) as front:
                assert ids(ask(front.url)) == ids(ITEMS)
        assert proxy.broken == 2 * -(-len(ITEMS) // 20)
        assert len(front.requests) == len(server.requests)

    @pytest.mark.parametrize("fault", ["503", "reset", "cut off"])
    def test_lasting_fault_names_its_page(self, fault):
        with light() as (_, server), Server(Proxy(server.url, lasting(4, FAULTS[fault]))) as front:
            with pytest.raises(CatalogError, match=rf"page 4 of {front.url}/search.*3 tries"):
                ask(front.url)
            searches = [r for r in front.requests if r.path == "/search"]
            assert len(searches) == 2 * (3 + 3)  # once more from the start: the link may be dead

    @pytest.mark.parametrize(
        "page",
        [
            {"links": []},
            {"type": "Catalog", "id": "a", "links": []},
            {
                "type": "Catalog",
                "id": "a",
                "description": "b",
                "stac_version": "1.0.0",
                "links": [],
            },
            ITEMS[0],
        ],
    )
    def test_landing_page_that_is_none(self, page):
        with Server(lambda _: reply(page)) as server, pytest.raises(CatalogError) as caught:
            api_items(server.url, Query(), http=Http(QUICK))
        assert "STAC API" in str(caught.value)


def test_is_api():
    with light() as (_, server):
        landing = Http(QUICK).json(server.url)
    assert is_api(landing)
    for other in ({}, {"links": None}, {"links": [{"rel": "item"}, None]}, ITEMS[0]):
        assert not is_api(other)
