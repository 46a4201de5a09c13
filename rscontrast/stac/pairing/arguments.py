"""The rules of :func:`rscontrast.stac.pair_items` as arguments of those who pass them on."""

from collections.abc import Sequence
from typing import TypedDict

from rscontrast.errors import choose
from rscontrast.stac.pairing.presets import Preset
from rscontrast.stac.pairing.rule import Event


class PairRules(TypedDict, total=False):
    """Keyword arguments of ``pair_items``, whose docstring says what they mean.

    Its ``min_valid``, of the metadata, is left out: to samplers the word is of the pixels.
    """

    preset: str | Preset | None
    min_gap: float | None
    max_gap: float | None
    same_season: bool | float | None
    different_season: bool | float | None
    max_cloud: float | None
    same_orbit: bool | None
    same_platform: bool | None
    same_image: bool | None
    min_overlap: float | None
    event: Event | None
    relation: str
    noisy_share: float | None
    max_per_place: int | None
    place: str | Sequence[str] | None
    tolerance: str
    cloud: str
    seed: int


def require_rules(rules: PairRules) -> None:
    """Refuse what is no rule.

    Raises:
        InputError: names it, and the rule that is nearest.
    """
    for name in rules:
        choose("rule", name, PairRules.__annotations__)
