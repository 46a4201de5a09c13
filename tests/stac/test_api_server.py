"""A search of a real STAC API, clean and through a proxy that breaks it, against plain Python."""

import dataclasses
import random
from collections import Counter
from contextlib import contextmanager

import pytest
from shapely.geometry import shape

from rscontrast.errors import CatalogError, InputError
from rscontrast.stac.api import api_items
from rscontrast.stac.http import Http, Policy
from rscontrast.stac.query import Query
from tests.stac.api_server import database as database
from tests.stac.api_server import served
from tests.stac.generated import collection, optical, radar
from tests.stac.proxy import Proxy, lasting, passing
from tests.stac.server import Reply, Server, cut, reply
from tests.stac.test_api import QUERIES, expected, ids, meets

QUICK = Policy(tries=4, connect=5, read=5, deadline=1.5, backoff=0.01, longest_backoff=0.05)
ITEMS = [*optical(2000), *radar(1000)]
PAGE = 300
PAGES = -(-len(ITEMS) // PAGE)


@pytest.fixture(scope="session")
def loaded(database):
    database.load([collection("optical"), collection("radar")], ITEMS)
    return database


@pytest.fixture(scope="session")
def api(loaded):
    with served(loaded) as url:
        yield url


@contextmanager
def through(url, *plan, **options):
    with Server(Proxy(url, *plan, **options)) as front:
        yield front


def ask(url, query=None, page=PAGE):
    found = list(api_items(url, query or Query(), http=Http(QUICK), page=page))
    assert max(Counter((i["collection"], i["id"]) for i in found).values(), default=1) == 1
    return found


@pytest.mark.parametrize("only_get", [False, True], ids=["POST", "GET"])
class TestQueries:
    @pytest.mark.parametrize("name", QUERIES)
    def test_equals_plain_python(self, api, name, only_get):
        query = QUERIES[name]
        with through(api, only_get=only_get) as front:
            found = [item for item in ask(front.url, query) if meets(item, query)]
        assert ids(found) == set(expected(ITEMS, query))
        assert found or name == "nothing"
        searches = [r for r in front.requests if r.path.startswith("/search")]
        assert {r.method for r in searches} == {"GET" if only_get else "POST"}
        assert len(searches) >= len(found) / PAGE

    @pytest.mark.parametrize("most", [1, 20, 450])
    def test_first_by_time(self, api, most, only_get):
        query = Query(area=QUERIES["polygon"].area, max_items=most)
        with through(api, only_get=only_get) as front:
            found = [item for item in ask(front.url, query, page=50) if meets(item, query)]
        assert expected(found, query) == expected(ITEMS, query)
        assert len(found) < len(expected(ITEMS, dataclasses.replace(query, max_items=None)))

    @pytest.mark.parametrize("name", list(FILTERS := {}))
    def test_filter(self, api, name, only_get):
        pass


def test_items_are_those_that_were_loaded(api):
    loaded = {item["id"]: item for item in ITEMS}
    for item in ask(api, Query(collections=("radar",), area=QUERIES["box"].area)):
        ours = loaded[item["id"]]
        assert item["properties"] == ours["properties"]
        assert item["assets"] == ours["assets"]
        assert shape(item["geometry"]).equals_exact(shape(ours["geometry"]), 1e-9)


def test_unknown_collection(api):
    with pytest.raises(InputError, match="did you mean 'radar'"):
        api_items(api, Query(collections=("raddar",)), http=Http(QUICK))


class TestDeletion:
    @pytest.mark.parametrize("only_get", [False, True], ids=["POST", "GET"])
    def test_survivors_are_all_there(self, api, loaded, only_get):
        """Among the deleted is the last of a page: pgstac answers 500 to the link after it."""
        order = [item["id"] for item in ask(api)]
        rng = random.Random(4)
        gone = set()

        def delete(number, attempt):
            if number in (2, 5) and attempt == 1 and len(gone) < 40:
                doomed = {order[PAGE * (number - 1) - 1], *rng.sample(order, 20)}
                loaded.delete(*doomed)
                gone.update(doomed)

        try:
            with through(api, delete, only_get=only_get) as front:
                found = ids(ask(front.url))
            assert len(gone) > 40
            assert ids(ITEMS) - gone <= found <= ids(ITEMS)
            assert len(front.requests) > PAGES + 2
        finally:
            loaded.load([], [item for item in ITEMS if item["id"] in gone])
        assert ids(ask(api)) == ids(ITEMS)


FAULTS = {
    "429": lambda r: reply({"detail": "slow down"}, 429, Retry_After="1"),
    "503": lambda r: reply({"detail": "busy"}, 503),
    "reset": lambda r: Reply(reset=True),
    "slow": lambda r: dataclasses.replace(r, drip=0.005),
    "cut off": cut,
    "cut off, no length": lambda r: cut(r, 0.9, length=False),
}


class TestFaults:
    @pytest.mark.parametrize("only_get", [False, True], ids=["POST", "GET"])
    def test_result_is_the_clean_one(self, api, only_get):
        with through(api, only_get=only_get) as clean:
            wanted = ask(clean.url)
        proxy = Proxy(api, passing(*FAULTS.values()), only_get=only_get)
        with Server(proxy) as front:
            found = ask(front.url)
        assert [i["id"] for i in found] == [i["id"] for i in wanted]
        assert [i["properties"] for i in found] == [i["properties"] for i in wanted]
        assert ids(found) == ids(ITEMS)
        assert proxy.broken == PAGES

    @pytest.mark.parametrize("fault", [name for name in FAULTS if name != "429"])
    def test_lasting_one_names_the_page(self, api, fault):
        query = Query(collections=("optical",))
        with through(api, lasting(3, FAULTS[fault])) as front, pytest.raises(
            CatalogError, match=rf"page 3 of {front.url}/search: POST .*4 tries"
        ):
            ask(front.url, query, page=500)
