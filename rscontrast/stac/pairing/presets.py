"""The pairing rules of the literature, by name."""

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rscontrast.errors import InputError, choose
from rscontrast.stac.pairing.places import Labels
from rscontrast.stac.pairing.tolerance import Times

WEEKS = tuple(7.0 * week for week in (0, 12, 24, 36, 48))
LONG_AGO = 4 * 365.25
"""Days from CACo's recent dates to its old ones; reconstruction: its release says "years"."""


@dataclass(frozen=True)
class Calendar:
    """Dates that a data set was collected at: one acquisition near each."""

    back: tuple[float, ...]
    """Days before the last acquisition of all."""
    window: float
    """An acquisition counts for a date from so many days before it to as many after."""
    shift: float = 0.0
    """All dates of a place are moved back by a random number of days up to this."""

    def choose(self, times: Times, place: Labels, seed: int) -> NDArray[np.bool_]:
        """Choose the latest acquisition in the window of each date of each place.

        A place that lacks one of the dates is left out, as its downloaders do.

        Args:
            times: [N].
            place: [N].
            seed: of the shifts.

        Returns:
            which are chosen, [N].
        """
        chosen = np.zeros(len(times), dtype=bool)
        if not len(times):
            return chosen
        places, where = np.unique(place, return_inverse=True)
        where = where.ravel()
        whole = np.ones(len(places), dtype=bool)
        shift = np.random.default_rng(seed).uniform(0, self.shift, len(places))
        age = (times.max() - times) / np.timedelta64(1, "D") - shift[where]
        for back in self.back:
            inside = np.flatnonzero(np.abs(age - back) <= self.window)
            latest = pd.Series(age[inside], index=inside).groupby(where[inside]).idxmin()
            chosen[latest.to_numpy(np.intp)] = True
            whole &= np.isin(np.arange(len(places)), latest.index)
        return chosen & whole[where]


@dataclass(frozen=True)
class Preset:
    """Rules of :func:`rscontrast.stac.pair_items`, unless its caller says otherwise."""

    source: str
    """Where the rules are published."""
    rules: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Arguments of ``pair_items``."""
    calendar: Calendar | None = None
    """Which dates are collected; None: all."""


def _rules(**rules: Any) -> MappingProxyType[str, Any]:
    return MappingProxyType(rules)


PRESETS = MappingProxyType(
    {
        "seco": Preset(
            "Mañas et al. 2021 and its release: five dates twelve weeks apart, moved by a random"
            " part of a year, clouds below 10 %; any two dates, also twice the same",
            _rules(max_cloud=10.0, min_gap=0.0, same_image=True),
            Calendar(WEEKS, window=7.5, shift=364),
        ),
        "caco": Preset(
            "Mall et al. 2023 and its release: five recent and five old dates; the positives are"
            " two dates of one group",
            _rules(max_cloud=10.0, min_gap=0.0, max_gap=364.0),
            Calendar((*WEEKS, *(day + LONG_AGO for day in WEEKS)), window=7.5, shift=364),
        ),
        "caco-long": Preset(
            "Mall et al. 2023 and its release: a recent and an old date, a negative where the"
            " place has changed",
            _rules(max_cloud=10.0, min_gap=LONG_AGO - 364),
            Calendar((*WEEKS, *(day + LONG_AGO for day in WEEKS)), window=7.5, shift=364),
        ),
        "moco-tp": Preset(
            "Ayush et al. 2021: any two images of the place",
            _rules(min_gap=0.0),
        ),
        "ssl4eo": Preset(
            "Wang et al. 2023 and its release: four seasons, moved by a random part of a year,"
            " 15 days to either side, clouds below 20 %; two independent seasons",
            _rules(max_cloud=20.0, min_gap=0.0, same_image=True),
            Calendar((0, 90, 183, 276), window=15, shift=364),
        ),
    }
)
"""Name -> rules. SeCo and SSL4EO draw with replacement: there the same image twice is a pair."""


def read_preset(preset: str | Preset | None) -> Preset:
    """Return the preset of a name; None: one without rules.

    Raises:
        InputError: there is no such preset.
    """
    if preset is None:
        return Preset("no preset")
    if isinstance(preset, Preset):
        return preset
    if not isinstance(preset, str):
        raise InputError("preset", preset, "a name or a Preset")
    return PRESETS[choose("preset", preset, PRESETS)]
