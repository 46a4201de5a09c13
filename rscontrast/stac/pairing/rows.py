"""Pairs as rows of acquisitions, and the columns that users see."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from rscontrast.stac.pairing.places import Labels, Shapes
from rscontrast.stac.pairing.rule import season_days

COLUMNS = (
    "pre_ids", "post_ids", "pre_datetime", "post_datetime", "gap_days", "season_days",
    "pre_cloud", "post_cloud", "pre_valid", "post_valid", "overlap", "orbit_difference",
    "sun_difference", "straddles_event", "place", "collection", "geometry",
)  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """Some pairs as rows of the acquisitions."""

    pre: Labels
    """[n]."""
    post: Labels
    """[n]."""
    common: Shapes
    """Common ground, [n]."""
    overlap: NDArray[np.float64]
    """Its share of the smaller footprint, [n]."""
    straddles: NDArray[np.bool_]
    """Whether the event lies between, [n]."""

    def take(self, rows: NDArray[np.bool_] | Labels) -> "Pairs":
        """Some of them."""
        return Pairs(*(column[rows] for column in vars(self).values()))

    @staticmethod
    def join(parts: "list[Pairs]") -> "Pairs":
        """Put them one behind the other."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Pairs(*(np.concatenate(column) for column in columns))


def pair_rows(
    acquired: gpd.GeoDataFrame, pairs: Pairs, place: NDArray[np.object_] | Labels
) -> gpd.GeoDataFrame:
    """Make the columns of some pairs.

    Args:
        acquired: of :func:`rscontrast.stac.pairing.acquisitions.acquisitions`.
        pairs: rows of it, [n].
        place: of each pair, [n].

    Returns:
        the columns of :data:`COLUMNS`.
    """
    pre, post = (acquired.iloc[rows] for rows in (pairs.pre, pairs.post))
    start, end = (side["datetime"].to_numpy() for side in (pre, post))
    gap = (end - start) / np.timedelta64(1, "D")
    return gpd.GeoDataFrame(
        {
            "pre_ids": pre["ids"].to_numpy(),
            "post_ids": post["ids"].to_numpy(),
            "pre_datetime": start,
            "post_datetime": end,
            "gap_days": gap,
            "season_days": season_days(gap),
            "pre_cloud": pre["cloud"].to_numpy(),
            "post_cloud": post["cloud"].to_numpy(),
            "pre_valid": pre["valid"].to_numpy(),
            "post_valid": post["valid"].to_numpy(),
            "overlap": pairs.overlap,
            "orbit_difference": post["orbit"].to_numpy() - pre["orbit"].to_numpy(),
            "sun_difference": _sun_difference(pre, post),
            "straddles_event": pairs.straddles,
            "place": place,
            "collection": pre["collection"].to_numpy(),
        },
        geometry=pairs.common,
        crs=acquired.crs,
    )


def _sun_difference(pre: gpd.GeoDataFrame, post: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Angle between the directions of the sun, degrees."""
    height = [np.radians(side["sun_elevation"].to_numpy()) for side in (pre, post)]
    turn = np.radians(post["sun_azimuth"].to_numpy() - pre["sun_azimuth"].to_numpy())
    sines = np.sin(height[0]) * np.sin(height[1])
    cosine = sines + np.cos(height[0]) * np.cos(height[1]) * np.cos(turn)
    angle: NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return angle
