"""What a search is asked with, beyond what makes sense: each has its message."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import shapely

from rscontrast.errors import InputError
from rscontrast.stac import search
from rscontrast.stac.conditions.period import read_toi
from rscontrast.stac.provider import GENERIC, OffsetRule
from rscontrast.stac.sources.http import Policy
from tests.stac.generated import optical
from tests.stac.light_api import LightApi
from tests.stac.server import Server, reply

ITEMS = optical(12)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"filter": "1"}, "filter: got"),
        ({"filter": "'open'"}, "filter: got"),
        ({"filter": "NULL"}, "filter: got"),
        ({"filter": "(" * 2000 + "a = 1" + ")" * 2000}, "at most 500 brackets"),
        ({"aoi": (1.0, 2.0)}, "aoi: got"),
        ({"aoi": (1, 1, 1, 1)}, "aoi: got .* all different$"),
        ({"aoi": {"type": "FeatureCollection", "features": []}}, "aoi: got '0 features'"),
        ({"collections": "optical"}, r"collections: got 'optical'; allowed: a list of ids"),
        ({"max_items": "3"}, "max_items: got '3'"),
        ({"max_items": True}, "max_items: got True"),
        ({"provider": None}, "provider: got None"),
        ({"toi": "20220801"}, "toi: got .*2022-08-01"),
    ],
)
def test_bad_arguments(arguments, text):
    with pytest.raises(InputError, match=text):
        search(ITEMS, **arguments)


@pytest.mark.parametrize(
    "source", [None, 3, ["a"], ITEMS[0], {"type": "FeatureCollection"}, pd.DataFrame({"id": [1]})]
)
def test_sources_that_are_none(source):
    with pytest.raises(InputError, match=r"source: got .*a list of Items"):
        search(source)


@pytest.mark.parametrize("day", [np.datetime64("2020-01-20"), "2020-01-20"])
def test_a_date_stands_for_its_day_in_any_form(day):
    assert read_toi(day) == read_toi("2020-01-20")
    month = read_toi(np.datetime64("2020-01"))
    assert month == read_toi("2020-01")
    days = pd.DatetimeIndex(["2020-01-20", "2020-01-22"])
    assert read_toi(days)[0] == pd.Timestamp("2020-01-20", tz="UTC")


def test_headers_and_waits_of_a_provider_go_with_every_request():
    api = LightApi(ITEMS)
    seen = []

    def keyed(request):
        seen.append(request.headers.get("X-Api-Key"))
        return api(request) if seen[-1] == "open" else reply({"code": "Unauthorized"}, 401)

    policy = Policy(tries=2, connect=2, read=2, deadline=2, backoff=0.01)
    provider = replace(GENERIC, headers={"X-Api-Key": "open"}, policy=policy)
    with Server(keyed) as server:
        assert len(search(server.url, provider=provider)) == 12
        assert set(seen) == {"open"}
        with pytest.raises(OSError, match="401"):
            search(server.url)


@pytest.mark.parametrize(
    ("version", "applied", "offset"),
    [("04.00", None, -0.1), ("2.14", None, 0.0), (2.14, None, 0.0), (5.1, None, -0.1),
     ("05.09", True, 0.0), ("05.09", "true", 0.0), ("05.09", "false", -0.1), (None, None, None)],
)  # fmt: skip
def test_an_offset_follows_the_version_as_a_number(version, applied, offset):
    rule = OffsetRule("version", "04.00", -0.1, "applied")
    assert rule({"id": "x", "version": version, "applied": applied}) == offset


def test_a_version_that_is_none():
    with pytest.raises(InputError, match="version of item x: got 'new'"):
        OffsetRule("version", "04.00", -0.1)({"id": "x", "version": "new"})


def test_an_area_of_two_numbers_is_no_frame_and_column(tmp_path):
    with pytest.raises(InputError, match="aoi: got"):
        search(ITEMS, aoi=(shapely.box(0, 0, 1, 1), 2))
