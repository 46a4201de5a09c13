"""A share of the labels, from every place alike."""

from collections.abc import Hashable, Sequence

import numpy as np

from rscontrast.errors import InputError


def require_share(share: float) -> float:
    """Refuse what is no share of labels.

    Raises:
        InputError: not above 0 and up to 1.
    """
    if not 0 < share <= 1:
        raise InputError("label_share", share, "a share above 0 and up to 1")
    return float(share)


def stratified(places: Sequence[Hashable], share: float, seed: int) -> list[int]:
    """Draw a share of labelled units, stratified by place.

    The n units of a place are shuffled; the r-th gets the key (r + u) / n, u uniform and its own
    for each place, and those with the smallest keys are taken. So each place gives its share to
    within a unit, which places give the odd unit is up to chance, and a smaller share of the same
    seed is part of a larger one.

    Args:
        places: of each unit.
        share: above 0, up to 1; at least one unit is drawn.
        seed: of the draw.

    Returns:
        indices of the units, ascending.
    """
    rng = np.random.default_rng(seed)
    codes = {place: code for code, place in enumerate(dict.fromkeys(places))}
    code = np.array([codes[place] for place in places])
    keys = np.empty(len(code))
    for one in range(len(codes)):
        units = rng.permutation(np.flatnonzero(code == one))
        keys[units] = (np.arange(len(units)) + rng.random()) / len(units)
    count = max(1, round(share * len(code)))
    return sorted(np.argsort(keys, kind="stable")[:count].tolist())


def held_out(groups: Sequence[str], share: float, seed: int) -> set[str]:
    """Whole groups (places or events) that are kept for validation.

    Args:
        groups: of each unit.
        share: of the groups, 0 to below 1; above 0 at least one is held out, and one is left.
        seed: of the draw.

    Raises:
        InputError: there is but one group.
    """
    names = sorted(set(groups))
    if not share:
        return set()
    if len(names) < 2:
        raise InputError("val_share", share, f"0: there is only one group, {names[0]}")
    count = min(len(names) - 1, max(1, round(share * len(names))))
    order = np.random.default_rng(seed).permutation(len(names))[:count]
    return {names[number] for number in order}
