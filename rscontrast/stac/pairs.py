"""Temporal pairs: two acquisitions of one place, chosen by rules, as a lazy table."""

from collections.abc import Mapping, Sequence
from typing import Any

import geopandas as gpd

from rscontrast.stac.pairing.acquisitions import acquisitions
from rscontrast.stac.pairing.presets import Preset, read_preset
from rscontrast.stac.pairing.properties import CLOUD
from rscontrast.stac.pairing.rule import Event, PairRule
from rscontrast.stac.pairing.selection import Selection
from rscontrast.stac.pairing.table import PairTable

DEFAULTS: Mapping[str, Any] = {"min_gap": 1.0}
DATES = ("min_gap", "max_gap", "same_season", "different_season")


def pair_items(
    items: gpd.GeoDataFrame,
    *,
    preset: str | Preset | None = None,
    min_gap: float | None = None,
    max_gap: float | None = None,
    same_season: bool | float | None = None,
    different_season: bool | float | None = None,
    max_cloud: float | None = None,
    min_valid: float | None = None,
    same_orbit: bool | None = None,
    same_platform: bool | None = None,
    same_image: bool | None = None,
    min_overlap: float | None = None,
    event: Event | None = None,
    relation: str = "any",
    noisy_share: float | None = None,
    max_per_place: int | None = None,
    place: str | Sequence[str] | None = None,
    tolerance: str = "1h",
    cloud: str = CLOUD,
    seed: int = 0,
) -> PairTable:
    """Pair the acquisitions of each place.

    Nothing is paired yet when this returns, but for one pair that shows that there are any: the
    table makes pairs when it is asked for some, for batches or for all of them.

    Args:
        items: as :func:`rscontrast.stac.search` returns them.
        preset: rules of the literature, "seco", "caco", "caco-long", "moco-tp" or "ssl4eo" (see
            :mod:`rscontrast.stac.pairing.presets`); the arguments below that are not None go
            before its rules.
        min_gap: least gap between the dates, days; 1 by default.
        max_gap: largest gap, days.
        same_season: largest difference in the time of the year, days (0-182); true: 45.
        different_season: the difference to be exceeded, days; true: 45.
        max_cloud: largest cloud cover of either acquisition, percent.
        min_valid: least share (0-1) of usable ground of either acquisition, as measured
            (``valid_share``) or as missing data and clouds leave it.
        same_orbit: whether both must be of one relative orbit (WRS path).
        same_platform: whether both must be of one platform.
        same_image: whether an acquisition with itself is a pair too.
        min_overlap: least share (0-1) of the smaller footprint that both have; 0.5 by default,
            and none with ``place``, whose word is enough.
        event: when something happened; with (time, area), also where: an area as in ``search``.
        relation: "any", "before", "after" or "straddle" (the event). With an area, pairs that
            do not touch it have no relation to the event.
        noisy_share: share (0-1) of the pairs that straddle the event. Each place then gives as
            many pairs as it has of the rarer kind, whatever the share.
        max_per_place: keep at most so many pairs of a place, drawn by ``seed``.
        place: properties that name a place ("grid:code"); by default footprints that share half
            of the smaller one are one place, and pairs across places are kept.
        tolerance: adjacent items of one pass within this time are one acquisition ("1h", "0s",
            "24h"), or all of one UTC day ("day" or "1D").
        cloud: property with the cloud cover, percent.
        seed: of what is drawn.

    Returns:
        the pairs; those of one place stand together.

    Raises:
        InputError: an argument out of range, or a rule on what the items do not say.
        EmptySearchError: no pair is left; says what each rule left.
    """
    chosen = read_preset(preset)
    rules = {**DEFAULTS, "min_overlap": 0.5 if place is None else None, **chosen.rules}
    asked = (
        ("min_gap", min_gap), ("max_gap", max_gap), ("same_season", same_season),
        ("different_season", different_season), ("max_cloud", max_cloud),
        ("min_valid", min_valid), ("same_orbit", same_orbit), ("same_platform", same_platform),
        ("same_image", same_image), ("min_overlap", min_overlap),
    )  # fmt: skip
    rules |= {name: value for name, value in asked if value is not None}
    dates = {name: rules.pop(name) for name in DATES if name in rules}
    selection = Selection(
        PairRule(event=event, relation=relation, **dates),
        calendar=chosen.calendar,
        noisy_share=noisy_share,
        max_per_place=max_per_place,
        seed=seed,
        **rules,
    )
    acquired = acquisitions(items, tolerance=tolerance, place=place, cloud=cloud)
    return PairTable(acquired, selection, named=place is not None)
