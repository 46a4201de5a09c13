"""Pairs for training, validation and test, so that no ground of one is in another."""

from collections.abc import Sequence
from math import isclose

import geopandas as gpd
import numpy as np

from rscontrast.errors import InputError
from rscontrast.stac import split_by_place
from rscontrast.stac.pairing.file import select_items
from rscontrast.stac.pairing.split import NAMES

ALL = (1.0, 0.0, 0.0)


def require_shares(splits: Sequence[float]) -> tuple[float, ...]:
    """Refuse what are no shares of train, val and test, of which the first is not empty.

    Raises:
        InputError: they are not.
    """
    shares = tuple(splits)
    if len(shares) != len(NAMES) or min(shares) < 0 or not shares[0] or not isclose(sum(shares), 1):
        allowed = "shares of train, val and test, the first above 0, that sum up to 1"
        raise InputError("splits", shares, allowed)
    return shares


def split_pairs(
    items: gpd.GeoDataFrame,
    pairs: gpd.GeoDataFrame,
    splits: Sequence[float],
    *,
    block: float,
    seed: int,
) -> dict[str, gpd.GeoDataFrame]:
    """Pairs of each split by its name; those across a border are in none.

    Args:
        items: the items that the pairs name, and maybe others.
        pairs: a table of pairs.
        splits: shares of train, val and test, see :func:`rscontrast.stac.split_by_place`.
        block: side of a block of places, degrees.
        seed: of the order in which blocks are dealt out.

    Raises:
        InputError: a split is left without a pair.
    """
    if tuple(splits) == ALL:
        return {"train": pairs}
    try:
        told = split_by_place(select_items(items, pairs), splits, block, seed=seed)
    except InputError as error:
        # Its name for it is "block".
        name = "split_block" if error.argument == "block" else error.argument
        raise InputError(name, error.got, error.allowed) from error
    split = dict(zip(told["id"], told["split"], strict=True))
    named = [
        {split[name] for name in (*pre, *post)}
        for pre, post in zip(pairs["pre_ids"], pairs["post_ids"], strict=True)
    ]
    shares = dict(zip(NAMES, splits, strict=True))
    found = {name: pairs[[one == {name} for one in named]] for name in NAMES if shares[name]}
    empty = [name for name, some in found.items() if some.empty]
    if empty:
        allowed = f"smaller blocks, or other splits: no pair is left for {', '.join(empty)}"
        raise InputError("split_block", block, allowed)
    return found


def split_labelled(
    items: gpd.GeoDataFrame,
    pairs: gpd.GeoDataFrame,
    splits: Sequence[float],
    *,
    by: str,
    block: float,
    seed: int,
) -> dict[str, gpd.GeoDataFrame]:
    """Pairs of each split, by place or by a column of the pairs.

    Args:
        items: the items that the pairs name.
        pairs: a table of pairs.
        splits: shares of train, val and test.
        by: "place", see :func:`split_pairs`; or a column, as "event": all pairs of one value are
            in one split, and the shares are of the values.
        block: of "place".
        seed: of the order in which blocks or values are dealt out.

    Raises:
        InputError: there is no such column, or a split is left without a pair.
    """
    if by == "place" or tuple(splits) == ALL:
        return split_pairs(items, pairs, splits, block=block, seed=seed)
    if by not in pairs.columns:
        raise InputError("split_by", by, f"place, or one of {', '.join(map(str, pairs.columns))}")
    names = np.array(sorted(pairs[by].astype(str).unique()))
    wanted = [name for name, share in zip(NAMES, splits, strict=True) if share]
    if len(names) < len(wanted):
        raise InputError("split_by", by, f"{len(wanted)} values or more: there are {len(names)}")
    order = np.random.default_rng(seed).permutation(names)
    shares = np.array([share for share in splits if share])
    # Each split has one value at least; the others go where most is missing.
    counts = np.ones(len(wanted), dtype=int)
    for _ in range(len(names) - len(wanted)):
        counts[np.argmax(shares * len(names) - counts)] += 1
    dealt = dict(zip(wanted, np.split(order, np.cumsum(counts)[:-1]), strict=True))
    return {split: pairs[pairs[by].astype(str).isin(some)] for split, some in dealt.items()}
