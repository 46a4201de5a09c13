"""A search of a real STAC API, clean and through a proxy that breaks it, against plain Python."""

import dataclasses
import random
from collections import Counter
from contextlib import contextmanager

import pytest
from shapely.geometry import shape

from rscontrast.errors import CatalogError, InputError
from rscontrast.stac.conditions.filter import read_filter
from rscontrast.stac.conditions.query import Query
from rscontrast.stac.items.convert import read_frame
from rscontrast.stac.sources.api import api_items
from rscontrast.stac.sources.http import Http, Policy
from tests.stac.api_server import database as database
from tests.stac.api_server import served
from tests.stac.generated import collection, optical, radar
from tests.stac.proxy import Proxy, lasting, passing
from tests.stac.server import Reply, Server, cut, reply
from tests.stac.test_api import QUERIES, expected, ids, meets, utc

CALM = Policy(backoff=0.01, longest_backoff=0.05)
HASTY = dataclasses.replace(CALM, tries=3, read=5, deadline=2.5)
ITEMS = [*optical(1500), *radar(800)]
PAGE = 100
RADAR = Query(collections=("radar",))
PAGES = 8
CLOUD, PLATFORM = {"property": "eo:cloud_cover"}, {"property": "platform"}


def cloud(own):
    """Cloud cover, above all where it is not known."""
    return own.get("eo:cloud_cover", 1000)


FILTERS = {
    "eo:cloud_cover < 20": lambda own: cloud(own) < 20,
    "platform = 's1'": lambda own: own.get("platform") == "s1",
    "eo:cloud_cover >= 20 AND eo:cloud_cover <= 30.5 AND platform <> 's1'": (
        lambda own: 20 <= cloud(own) <= 30.5 and own["platform"] != "s1"
    ),
    "eo:cloud_cover < 5 OR platform = 's2'": (
        lambda own: cloud(own) < 5 or own.get("platform") == "s2"
    ),
    "NOT (eo:cloud_cover < 20)": lambda own: 20 <= cloud(own) <= 100,
    "eo:cloud_cover IS NULL": lambda own: cloud(own) == 1000,
    "platform IN ('s0', 's2')": lambda own: own.get("platform") in ("s0", "s2"),
    "eo:cloud_cover BETWEEN 10 AND 12": lambda own: 10 <= cloud(own) <= 12,
    "sat:orbit_state LIKE 'asc%'": lambda own: own.get("sat:orbit_state") == "ascending",
}


@pytest.fixture(scope="session")
def loaded(database):
    database.load([collection("optical"), collection("radar")], ITEMS)
    return database


@pytest.fixture(scope="session")
def api(loaded):
    with served(loaded) as url:
        yield url


@pytest.fixture(scope="session")
def plain_api(loaded):
    with served(loaded, ENABLED_EXTENSIONS="query,sort,pagination") as url:
        yield url


@contextmanager
def through(url, *plan, **options):
    with Server(Proxy(url, *plan, **options)) as front:
        yield front


def ask(url, query, page=PAGE, policy=CALM):
    found = list(api_items(url, query, http=Http(policy), page=page))
    assert max(Counter((i["collection"], i["id"]) for i in found).values(), default=1) == 1
    return found


METHODS = pytest.mark.parametrize("only_get", [False, True], ids=["POST", "GET"])


class TestQueries:
    @METHODS
    @pytest.mark.parametrize("name", ["box", "polygon", "point", "two parts", "several", "nothing"])
    def test_equals_plain_python(self, api, name, only_get):
        query = QUERIES[name]
        with through(api, only_get=only_get) as front:
            found = [item for item in ask(front.url, query, page=500) if meets(item, query)]
        assert ids(found) == set(expected(ITEMS, query))
        assert found or name == "nothing"
        searches = [r for r in front.requests if r.path.startswith("/search")]
        assert {r.method for r in searches} == {"GET" if only_get else "POST"}
        assert len(searches) >= len(found) / 500

    @METHODS
    @pytest.mark.parametrize("most", [1, 20, 450])
    def test_first_by_time(self, api, most, only_get):
        query = Query(area=QUERIES["polygon"].area, max_items=most)
        with through(api, only_get=only_get) as front:
            found = [item for item in ask(front.url, query, page=50) if meets(item, query)]
        assert expected(found, query) == expected(ITEMS, query)
        assert len(found) < len(expected(ITEMS, dataclasses.replace(query, max_items=None)))

    @METHODS
    @pytest.mark.parametrize("text", FILTERS)
    def test_filter(self, api, text, only_get):
        """What the server leaves out and what we do ourselves are the same."""
        query = Query(filter=read_filter(text), start=utc("2020-06-01"), end=utc("2020-09-01"))
        with through(api, only_get=only_get) as front:
            found = ask(front.url, query, page=500)
        wanted = expected(ITEMS, query, FILTERS[text])
        assert ids(found) == set(wanted)
        assert 0 < len(wanted) < len(expected(ITEMS, query))
        some = [item for item in ITEMS if meets(item, query)]
        kept = query.filter.mask(read_frame(some, source="generated"))
        assert {item["id"] for item, keep in zip(some, kept, strict=True) if keep} == set(wanted)


@pytest.mark.parametrize("text", FILTERS)
def test_server_without_filter_extension(plain_api, text):
    """It is asked what every `query` can say, and gives all for the rest."""
    query = Query(filter=read_filter(text), collections=("optical",), start=utc("2021"))
    found = ask(plain_api, query, page=500)
    wanted = set(expected(ITEMS, query, FILTERS[text]))
    unfiltered = set(expected(ITEMS, query))
    told = not any(word in text for word in ("OR", "NOT", "NULL", "IN", "BETWEEN", "LIKE"))
    assert wanted < unfiltered
    assert ids(found) == wanted if told else ids(found) >= wanted


def test_items_are_those_that_were_loaded(api):
    loaded = {item["id"]: item for item in ITEMS}
    for item in ask(api, Query(collections=("radar",), area=QUERIES["box"].area)):
        ours = loaded[item["id"]]
        known = {name: value for name, value in ours["properties"].items() if value is not None}
        assert item["properties"] == known
        assert item["assets"] == ours["assets"]
        assert shape(item["geometry"]).equals_exact(shape(ours["geometry"]), 1e-9)


def test_unknown_collection(api):
    with pytest.raises(InputError, match="did you mean 'radar'"):
        api_items(api, Query(collections=("raddar",)), http=Http(CALM))


class TestDeletion:
    @METHODS
    def test_survivors_are_all_there(self, api, loaded, only_get):
        """Among the deleted is the last of a page: pgstac answers 500 to the link after it."""
        order = [item["id"] for item in ask(api, RADAR)]
        rng = random.Random(4)
        gone = set()

        def delete(number, attempt):
            if number in (2, 5) and attempt == 1 and len(gone) < 40:
                doomed = {order[PAGE * (number - 1) - 1], *rng.sample(order, 20)}
                loaded.delete(*doomed)
                gone.update(doomed)

        try:
            with through(api, delete, only_get=only_get) as front:
                found = ids(ask(front.url, RADAR))
            assert len(gone) > 40
            assert set(order) - gone <= found <= set(order)
            assert len(front.requests) > PAGES + 2
        finally:
            loaded.load([], [item for item in ITEMS if item["id"] in gone])
        assert len(ask(api, RADAR)) == len(order)


FAULTS = {
    "429": lambda r: reply({"detail": "slow down"}, 429, Retry_After="1"),
    "503": lambda r: reply({"detail": "busy"}, 503),
    "reset": lambda r: Reply(reset=True),
    "slow": lambda r: dataclasses.replace(r, drip=0.005),
    "cut off": cut,
    "cut off, no length": lambda r: cut(r, 0.9, length=False),
}


class TestFaults:
    @METHODS
    def test_result_is_the_clean_one(self, api, only_get):
        with through(api, only_get=only_get) as clean:
            wanted = ask(clean.url, RADAR)
        proxy = Proxy(api, passing(*FAULTS.values()), only_get=only_get)
        with Server(proxy) as front:
            found = ask(front.url, RADAR, policy=HASTY)
        assert [i["id"] for i in found] == [i["id"] for i in wanted]
        assert [i["properties"] for i in found] == [i["properties"] for i in wanted]
        assert len(found) == 800
        assert proxy.broken == PAGES

    @pytest.mark.parametrize("fault", ["503", "cut off"])
    def test_lasting_one_names_the_page(self, api, fault):
        with through(api, lasting(3, FAULTS[fault])) as front:
            text = rf"page 3 of {front.url}/search: POST .* 3 tries"
            with pytest.raises(CatalogError, match=text):
                ask(front.url, RADAR, 50, HASTY)
