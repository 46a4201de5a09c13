"""Which acquisitions and which pairs of them are kept, beyond their dates."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from rscontrast.errors import InputError, whole
from rscontrast.stac.pairing.places import Labels, Shapes
from rscontrast.stac.pairing.presets import Calendar
from rscontrast.stac.pairing.rule import PairRule


@dataclass(frozen=True)
class Selection:
    """All rules of a table of pairs."""

    rule: PairRule
    """Gap, season and relation to the event."""
    min_overlap: float | None = 0.5
    """Least share of the smaller footprint, 0-1 (0: any common ground); None: no matter."""
    max_cloud: float | None = None
    """Largest cloud cover of either acquisition, percent."""
    min_valid: float | None = None
    """Least usable share of either acquisition, 0-1."""
    same_orbit: bool = False
    """Whether both must be of one relative orbit."""
    same_platform: bool = False
    """Whether both must be of one platform."""
    same_image: bool = False
    """Whether an acquisition with itself is a pair too."""
    calendar: Calendar | None = None
    """Dates that are collected."""
    noisy_share: float | None = None
    """Share of the pairs that straddle the event, 0-1."""
    max_per_place: int | None = None
    """Keep at most so many pairs of a place."""
    seed: int = 0
    """Of what is drawn."""

    def __post_init__(self) -> None:
        """Refuse shares and percentages out of range, and noise without an event."""
        _between("min_overlap", self.min_overlap, 1, "a share from 0 to 1")
        _between("max_cloud", self.max_cloud, 100, "percent, 0 to 100")
        _between("min_valid", self.min_valid, 1, "a share from 0 to 1")
        _between("noisy_share", self.noisy_share, 1, "a share from 0 to 1")
        if self.max_per_place is not None:
            whole("max_per_place", self.max_per_place)
        whole("seed", self.seed, least=0)
        if self.noisy_share is not None and self.rule.event is None:
            raise InputError("event", None, "a date, since noisy_share asks for pairs around it")
        if self.noisy_share is not None and self.rule.relation != "any":
            allowed = "'any' with noisy_share, which mixes pairs that straddle and that do not"
            raise InputError("relation", self.rule.relation, allowed)

    def usable(self, acquired: gpd.GeoDataFrame) -> NDArray[np.bool_]:
        """Which acquisitions may be in a pair.

        Raises:
            InputError: a rule asks for what an acquisition does not say.
        """
        keep = np.ones(len(acquired), dtype=bool)
        if self.max_cloud is not None:
            keep &= _known(acquired, "cloud", "max_cloud", self.max_cloud) <= self.max_cloud
        if self.min_valid is not None:
            keep &= _known(acquired, "valid", "min_valid", self.min_valid) >= self.min_valid
        if self.same_orbit and acquired["orbit"].isna().all():
            raise InputError("same_orbit", True, "False, since no item tells its orbit")
        if self.same_platform and (acquired["platform"] == "").all():
            raise InputError("same_platform", True, "False, since no item tells its platform")
        return keep

    def pairs(self, acquired: gpd.GeoDataFrame, pre: Labels, post: Labels) -> NDArray[np.bool_]:
        """Whether the rules on two acquisitions allow each pair, whatever its ground.

        Args:
            acquired: the acquisitions.
            pre: rows of the earlier ones, [n].
            post: rows of the later ones, [n].
        """
        times = acquired["datetime"].to_numpy()
        keep = self.rule.allows(times[pre], times[post])
        if self.same_image and self.rule.least_season < 0:
            keep |= (pre == post) & self.rule.relates(times[pre], times[post])
        if self.same_orbit:
            orbit = acquired["orbit"].to_numpy()
            keep &= orbit[pre] == orbit[post]  # NaN equals nothing: an unknown orbit is refused
        if self.same_platform:
            platform = acquired["platform"].to_numpy()
            keep &= (platform[pre] == platform[post]) & (platform[pre] != "")
        return keep

    def enough(self, share: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the shares of the smaller footprints suffice."""
        if self.min_overlap is None:
            return np.ones(len(share), dtype=bool)
        # Identical footprints share all but the last digit of themselves.
        return (share >= self.min_overlap * (1 - 1e-9)) & (share > 0)


def common_ground(pre: Shapes, post: Shapes) -> tuple[Shapes, NDArray[np.float64]]:
    """Common ground of footprints, and its share of the smaller one, [n]."""
    common = shapely.intersection(pre, post)
    least = np.minimum(shapely.area(pre), shapely.area(post))
    with np.errstate(invalid="ignore"):  # footprints without an area share NaN: not enough
        return common, shapely.area(common) / least


def _known(
    acquired: gpd.GeoDataFrame, column: str, argument: str, value: float
) -> NDArray[np.float64]:
    known: NDArray[np.float64] = acquired[column].to_numpy()
    lost = np.isnan(known)
    if lost.any():
        what = "cloud cover" if column == "cloud" else "cloud cover or missing data"
        allowed = (
            f"items that all tell their {what}, such as eo:cloud_cover: {lost.sum()} acquisitions"
            f" ({acquired['ids'][lost].iloc[0][0]}, ...) do not; leave those out, by search's"
            " filter 'eo:cloud_cover IS NOT NULL' say"
        )
        raise InputError(argument, value, allowed)
    return known


def _between(argument: str, value: float | None, most: float, allowed: str) -> None:
    if value is not None and not 0 <= value <= most:
        raise InputError(argument, value, allowed)
