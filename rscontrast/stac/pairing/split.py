"""Train, validation and test by place, so that ground of one is not in another."""

from collections.abc import Mapping, Sequence

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from rscontrast.errors import InputError, positive
from rscontrast.stac.pairing.places import SHARE, Classes, Labels, classify, group, neighbours

NAMES = ("train", "val", "test")
BORDER = "border"
"""Items that share ground with another split's, and are therefore in none."""

TOUCH = 0.01
"""Items share ground if they have more than this part of the smaller one in common: neighbours in
a grid of tiles overlap by slivers, since edges straight in their CRS are not so in degrees."""


def split_by_place(
    items: gpd.GeoDataFrame,
    fractions: Mapping[str, float] | Sequence[float] = (0.7, 0.15, 0.15),
    block: float = 1.0,
    *,
    seed: int = 0,
) -> gpd.GeoDataFrame:
    """Give each item a split, by the block of a grid in which its place lies.

    Items of a place (footprints that share half of the smaller one) stay together. Where items
    of two splits share more than a hundredth of the smaller footprint, those of the earlier split
    are left out, so that test data were never seen: that costs little if blocks are several
    scenes wide.

    Args:
        items: as :func:`rscontrast.stac.search` returns them.
        fractions: share of the places by name of the split, or of train, val and test; they sum
            up to 1 and are met as nearly as whole blocks can.
        block: side of a block, degrees.
        seed: of the order in which blocks are dealt out.

    Returns:
        the items with a column ``split``: a name, or "border" for what is left out.

    Raises:
        InputError: shares that do not sum up to 1, or blocks too large to give each split one.
    """
    shares = _shares(fractions)
    positive("block", block)
    shapes = items.geometry.to_numpy()
    classes = classify(shapes, np.zeros(len(shapes), dtype=np.intp))
    place = group(classes, shapes, neighbours(classes, SHARE))
    dealt = _deal(shapes[classes.lead], place, shares, block, seed)
    split = _clear(classes, shapes, dealt)[classes.label]
    names = np.array([*shares, BORDER], dtype=object)
    empty = [name for code, name in enumerate(shares) if shares[name] and not (split == code).any()]
    if empty:
        allowed = f"smaller blocks, or more places: nothing is left for {', '.join(empty)}"
        raise InputError("block", block, allowed)
    return items.assign(split=names[split])


def _shares(fractions: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
    allowed = "shares of 0 or more that sum up to 1: three (train, val, test), or by name"
    if isinstance(fractions, Mapping):
        shares = {str(name): float(share) for name, share in fractions.items()}
    elif len(fractions) == len(NAMES):
        shares = dict(zip(NAMES, map(float, fractions), strict=True))
    else:
        raise InputError("fractions", fractions, allowed)
    if not np.isclose(sum(shares.values()), 1) or min(shares.values()) < 0 or BORDER in shares:
        raise InputError("fractions", fractions, allowed)
    return shares


def _deal(
    lead: NDArray[np.object_], place: Labels, shares: Mapping[str, float], block: float, seed: int
) -> Labels:
    """Split of each class: its place's block, dealt out in a random order by share of places."""
    first = np.unique(place, return_index=True)[1]
    centre = shapely.get_coordinates(shapely.centroid(lead[first]))
    cell, home = np.unique(np.floor(centre / block), axis=0, return_inverse=True)
    home = home.ravel()
    order = np.random.default_rng(seed).permutation(len(cell))
    count = np.bincount(home, minlength=len(cell))[order]
    # A block goes where its middle falls on the line of all places.
    middle = (np.cumsum(count) - count / 2) / count.sum()
    bounds = np.cumsum(list(shares.values()))[:-1]
    of_block = np.empty(len(cell), dtype=np.intp)
    of_block[order] = np.searchsorted(bounds, middle, side="right")
    return of_block[home][place]


def _clear(classes: Classes, shapes: NDArray[np.object_], split: Labels) -> Labels:
    """Take out the classes that share ground with those of a later split."""
    a, b = neighbours(classes, TOUCH)
    apart = split[a] < split[b]
    a, b = a[apart], b[apart]
    both, where = np.unique([a, b], return_inverse=True)
    ground = np.array([shapely.union_all(shapes[classes.label == k]) for k in both], dtype=object)
    a_ground, b_ground = ground[where.reshape(2, -1)]
    common = shapely.area(shapely.intersection(a_ground, b_ground))
    shared = common > TOUCH * np.minimum(classes.area[a], classes.area[b])
    cleared = split.copy()
    cleared[a[shared]] = -1
    return cleared
