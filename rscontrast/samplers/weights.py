"""How often a pair is drawn: by a column, by the season, by numbers."""

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rscontrast.errors import InputError, choose

type Weights = str | Sequence[float] | NDArray[np.floating] | pd.Series

SEASON = "season"


def by_season(weights: Weights | None) -> bool:
    """Whether each quarter of the year is to weigh the same."""
    return isinstance(weights, str) and weights == SEASON


def read_weights(weights: Weights | None, pairs: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Weight of each pair, [n].

    Args:
        weights: a numeric column of the pairs, or numbers, one a pair; "season" and None: 1.
        pairs: the table.

    Raises:
        InputError: an unknown column, or numbers that are no weights.
    """
    if weights is None or by_season(weights):
        return np.ones(len(pairs))
    if isinstance(weights, str):
        numeric = [name for name in pairs if pd.api.types.is_numeric_dtype(pairs[name])]
        choose("weights", weights, [*map(str, numeric), SEASON])
        return _checked(pairs[weights], weights, len(pairs))
    return _checked(weights, "numbers", len(pairs))


def _checked(values: Weights, name: str, count: int) -> NDArray[np.float64]:
    try:
        found: NDArray[np.float64] = pd.to_numeric(pd.Series(values)).to_numpy(
            np.float64, na_value=np.nan
        )
    except (ValueError, TypeError) as error:
        raise InputError("weights", name, f"numbers, one a pair ({error})") from error
    if len(found) != count:
        raise InputError("weights", f"{len(found)} numbers", f"one a pair: {count}")
    lost = int((~np.isfinite(found)).sum())
    if lost:
        allowed = f"finite numbers: {lost} of {count} pairs have none; leave these pairs out"
        raise InputError("weights", name, f"{allowed}, or fill them: column.fillna(0)")
    if (found < 0).any():
        allowed = "0 or more: shift or clip them, as by column.clip(lower=0)"
        raise InputError("weights", f"{name}, {found.min():g}", allowed)
    if not (found > 0).any():
        raise InputError("weights", f"{name}, all 0", "at least one number above 0")
    return found


def quarters(times: NDArray[np.datetime64]) -> NDArray[np.intp]:
    """Quarter of the year of each time, 0-3."""
    months = times.astype("datetime64[M]").astype(np.int64)
    quarter: NDArray[np.intp] = (months % 12 // 3).astype(np.intp)
    return quarter
