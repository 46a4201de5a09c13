"""The stage that looks: a few patches and their views as one picture, before any training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import lightning.pytorch as pl
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets.utils import Sample

from rscontrast.datamodules import PairDataModule
from rscontrast.errors import InputError, choose, whole
from rscontrast.report.views import PatchViews, contact_sheet
from rscontrast.stac.pairing.file import SomePairs
from rscontrast.types import PathOrStr, SensorContract

TRUE_COLOUR = ("red", "green", "blue")


def draw_views(
    items: gpd.GeoDataFrame | None,
    pairs: SomePairs | None,
    out: PathOrStr,
    *,
    patches: int = 4,
    show: Sequence[str] | None = None,
    views: Mapping[str, Any] | None = None,
    weights_by: str | None = None,
    seed: int = 0,
    **data: Any,
) -> Path:
    """Draw a few patches, make views of them as a training would, and write a contact sheet.

    A row shows the two dates of a patch with the footprints of its views, then the views.

    Args:
        items: of :func:`rscontrast.search`; None with ``cache``.
        pairs: of :func:`rscontrast.pair_items`; None with ``cache``.
        out: PNG to write.
        patches: rows of the sheet.
        show: one to three of the bands, as red, green and blue; default: those of these names,
            or else the first three.
        views: arguments of :class:`rscontrast.augment.PairViews`.
        weights_by: how often a pair is drawn: a column of the pairs, or "season".
        seed: of the patches and of their views.
        data: of :class:`rscontrast.datamodules.PairDataModule`.

    Returns:
        ``out``.

    Raises:
        InputError: an argument out of range, or ``out`` is no PNG.
        BandError: an item lacks a band.
        AssetError: a file or the cache cannot be read.
        WriteError: the file cannot be written.
    """
    if Path(out).suffix.lower() != ".png":
        raise InputError("out", str(out), "a name that ends in .png")
    # A batch has 2 pairs or more.
    count = max(2, whole("patches", patches))
    whole("seed", seed, least=0)
    pl.seed_everything(seed, verbose=False)
    recipe = {**(views or {}), "flatten": False}
    module = PairDataModule(
        items, pairs, batch_size=count, length=count, weights=weights_by, seed=seed,
        views=recipe, **data,
    )  # fmt: skip
    shown = choose_bands(module.bands, show)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert module.contract is not None  # setup gave it, and the views
    assert module.train_aug is not None
    made = module.train_aug(batch)
    rows = [_row(batch, made, n, shown, module.contract) for n in range(patches)]
    names = ", ".join(module.bands[band] for band in shown)
    contact_sheet(rows, Path(out), title=_title(recipe, rows[0]), note=f"Bands shown: {names}.")
    return Path(out)


def choose_bands(bands: Sequence[str], show: Sequence[str] | None = None) -> list[int]:
    """Numbers of the one to three bands that are shown.

    Args:
        bands: all of them.
        show: names; default: red, green and blue where all are there, or else the first three.

    Raises:
        InputError: a name that is not there, or more than three.
    """
    if show is None:
        show = TRUE_COLOUR if set(TRUE_COLOUR) <= set(bands) else bands[:3]
    if not 1 <= len(show) <= 3:
        raise InputError("show", list(show), "one, two or three bands")
    return [list(bands).index(choose("show", name, bands)) for name in show]


def _row(
    batch: Sample, made: Sample, number: int, shown: list[int], contract: SensorContract
) -> PatchViews:
    dates = pd.to_datetime(batch["dates"][number].numpy(), unit="s")
    return PatchViews(
        dates=_array(batch["image"][number][:, shown]),
        dates_valid=_array(batch["valid"][number]),
        views=_array(reflectance(made["image"][number], contract)[:, shown]),
        views_valid=_array(made["valid"][number]),
        matrix=_array(made["view_matrix"][number].double()),
        names=tuple(f"date {n + 1}: {date:%Y-%m-%d}" for n, date in enumerate(dates)),
    )


def reflectance(image: Tensor, contract: SensorContract) -> Tensor:
    """Undo the normalisation of [..., C, H, W]; what was not valid is of no meaning."""
    mean, std = (image.new_tensor(getattr(contract, name)) for name in ("mean", "std"))
    return image * std[:, None, None] + mean[:, None, None]


def _array(values: Tensor) -> NDArray[Any]:
    return np.asarray(values.detach().cpu())


def _title(recipe: Mapping[str, Any], row: PatchViews) -> str:
    name = f", preset {recipe['preset']}" if "preset" in recipe else ""
    patch, view = ("{} x {}".format(*images.shape[-2:]) for images in (row.dates, row.views))
    return f"Views of {view} pixels from patches of {patch}{name}"
