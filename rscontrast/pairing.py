"""The pairing stage: items in; a table of pairs, its summary and its picture out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from rscontrast.errors import InputError
from rscontrast.io.quality import pair_quality
from rscontrast.report.pairs import draw_pairs
from rscontrast.stac.conditions.area import AOI
from rscontrast.stac.pairing.file import read_batches, write_pairs
from rscontrast.stac.pairing.summary import PairSummary, summarise
from rscontrast.stac.pairs import pair_items
from rscontrast.stac.provider import read_provider
from rscontrast.types import PathOrStr


@dataclass(frozen=True)
class PairReport:
    """What :func:`make_pairs` wrote."""

    pairs: Path
    """The table."""
    summary: PairSummary
    """What is in it."""
    figure: Path | None = None
    """Its picture."""
    quality: pd.DataFrame | None = None
    """Columns of the pairs that were measured."""

    def __str__(self) -> str:
        """The summary, the quartiles of what was measured, and where the files are."""
        parts = [str(self.summary)]
        if self.quality is not None:
            quartiles = self.quality.quantile([0.25, 0.5, 0.75]).T
            quartiles.columns = pd.Index(["25 %", "median", "75 %"])
            quartiles["measured"] = self.quality.notna().sum()
            parts.append(quartiles.to_string(float_format="{:.3f}".format, na_rep="-"))
        files = [str(path) for path in (self.pairs, self.figure) if path is not None]
        return "\n\n".join([*parts, "  ".join(files)])


def make_pairs(
    items: gpd.GeoDataFrame,
    out: PathOrStr,
    *,
    event: str | None = None,
    event_area: AOI | None = None,
    figure: bool = True,
    quality: int | None = None,
    bands: Sequence[str] = (),
    provider: str = "generic",
    seed: int = 0,
    **rules: Any,
) -> PairReport:
    """Pair items by rules, write the pairs, draw them and sum them up.

    Args:
        items: of :func:`rscontrast.search`.
        out: GeoParquet to write.
        event: when something happened, an ISO date or instant.
        event_area: where it happened: an area as in ``search``; default: everywhere.
        figure: whether to draw the pairs, as a PNG beside ``out``.
        quality: measure so many pairs, drawn by ``seed``: valid ground, shift, radiometry and
            change become columns of ``out``, NaN for the pairs that are not measured.
        bands: what is measured: asset keys, band names or common names.
        provider: whose items they are, for the bands.
        seed: of what is drawn.
        rules: of :func:`rscontrast.stac.pair_items`.

    Returns:
        what was written; ``str`` of it is a table.

    Raises:
        InputError: an argument out of range; more than five million pairs to measure some of.
        EmptySearchError: no pair is left.
        AssetError: a raster that is measured cannot be read.
        WriteError: the folder or the disk does not take a file.
    """
    if event_area is not None and event is None:
        raise InputError("event", None, "a date, since event_area says where something happened")
    if quality is not None and not bands:
        raise InputError("bands", bands, "1 or more band names, whose quality is measured")
    when = event if event is None or event_area is None else (event, event_area)
    pairs = pair_items(items, event=when, seed=seed, **rules)
    measured = None
    if quality is None:
        write_pairs(pairs, out)
    else:
        frame, publisher = pairs.frame(), read_provider(provider)
        found = pair_quality(items, frame, bands=bands, provider=publisher, n=quality, seed=seed)
        measured = found[found.columns.difference(frame.columns, sort=False)]
        write_pairs(frame.join(measured), out)
    drawn = Path(out).with_suffix(".png") if figure else None
    if drawn is not None:
        draw_pairs(read_batches(out), drawn)
    return PairReport(Path(out), summarise(read_batches(out)), drawn, measured)
