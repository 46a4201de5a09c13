"""What a job writes: a map of classes and their probabilities, or an embedding."""

import math
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from torch import Tensor

from rscontrast.io.write import CogWriter
from rscontrast.mapping.colours import class_colours
from rscontrast.mapping.job import Job, Settings
from rscontrast.mapping.model import Model
from rscontrast.types import IGNORE

STEPS = 254
"""Probability 1 as a pixel; 255 is nodata."""

LONGEST = 127
"""The longest component of an embedding as a pixel; -128 is nodata."""

type Numbers = tuple[NDArray[Any], ...]
"""Pixels of each file, [bands, h, w]."""


class Product(Protocol):
    """Files of a job; leaving the block without an error gives them their names."""

    names: tuple[str, ...]
    """Of the files."""

    def numbers(self, values: Tensor) -> Numbers:
        """What is written of what the model says, [K, h, w]; computed where the model is."""

    def write(self, row: int, numbers: Numbers, valid: NDArray[np.bool_]) -> None:
        """Write rows from one on."""

    def __enter__(self) -> Self:
        """Begin the files."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish them, or clear away what was begun."""


class Rasters:
    """COGs of one grid, with an internal mask."""

    names: tuple[str, ...] = ()

    def __init__(self, writers: tuple[CogWriter, ...], nodata: int) -> None:
        """Take them."""
        self.writers, self.nodata = writers, nodata
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Begin the files.

        Raises:
            WriteError: the folder cannot be written.
        """
        with ExitStack() as stack:
            for writer in self.writers:
                stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish them, or clear away what was begun.

        Raises:
            WriteError: the disk does not take them.
        """
        self._stack.__exit__(kind, error, trace)

    def write(self, row: int, numbers: Numbers, valid: NDArray[np.bool_]) -> None:
        """Write rows; what is not valid is no data.

        Raises:
            WriteError: the disk does not take them.
        """
        for writer, pixels in zip(self.writers, numbers, strict=True):
            if not valid.all():
                pixels[:, ~valid] = self.nodata
            writer.write(pixels, row, 0, valid)


class Maps(Rasters):
    """``classes.tif`` and ``probabilities.tif``, with a last band of uncertainty on request."""

    names = ("classes.tif", "probabilities.tif")

    def __init__(
        self, folder: Path, job: Job, grid: GeoBox, model: Model, settings: Settings
    ) -> None:
        """Describe both.

        Args:
            folder: of the job.
            job: whose items are named in the files.
            grid: of the files.
            model: a segmenter.
            settings: whether there is a band of uncertainty.
        """
        self.uncertainty = settings.uncertainty
        bands = (*model.class_names, *(["uncertainty"] if self.uncertainty else []))
        common: dict[str, Any] = {"dtype": "uint8", "nodata": IGNORE, "mask": True}
        common |= {"tags": _tags(job), "statistics": True}
        colours = class_colours(len(model.class_names))
        classes, probabilities = (folder / name for name in self.names)
        super().__init__(
            (
                CogWriter(classes, grid, bands=["class"], colours=colours, **common),
                CogWriter(
                    probabilities, grid, bands=bands, scale=1 / STEPS, predictor=True,
                    resampling="average", **common,
                ),
            ),
            IGNORE,
        )  # fmt: skip

    @torch.inference_mode()
    def numbers(self, values: Tensor) -> Numbers:
        """Classes [1, h, w], and steps of probability [K, h, w] with uncertainty behind them.

        Uncertainty is the entropy of the probabilities over its largest value, - sum_k p_k
        log p_k / log K, from 0 (sure) to 1 (all classes alike).
        """
        classes = values.argmax(dim=0, keepdim=True).to(torch.uint8)
        parts = [values]
        if self.uncertainty:
            entropy = torch.special.entr(values).sum(dim=0, keepdim=True) / math.log(len(values))
            parts.append(entropy)
        steps = [part.mul_(STEPS).round_().clamp_(0, STEPS).to(torch.uint8) for part in parts]
        return classes.cpu().numpy(), torch.cat(steps).cpu().numpy()


class Embedding(Rasters):
    """``embedding.tif``: the direction of a feature vector at each cell of the encoder's grid.

    Each vector is divided by its longest component and rounded to 127 steps: angles between two,
    which is what similarity asks for, stay as they are to about a thousandth; lengths are lost.
    """

    names = ("embedding.tif",)

    def __init__(self, folder: Path, job: Job, grid: GeoBox, model: Model) -> None:
        """Describe it; see :class:`Maps`."""
        bands = [f"feature {number}" for number in range(model.channels)]
        writer = CogWriter(
            folder / self.names[0], grid, bands=bands, dtype="int8", nodata=-LONGEST - 1,
            scale=1 / LONGEST, mask=True, tags=_tags(job, "post"),
        )  # fmt: skip
        super().__init__((writer,), -LONGEST - 1)

    @torch.inference_mode()
    def numbers(self, values: Tensor) -> Numbers:
        """Steps of each component, [D, h, w]."""
        longest = values.abs().amax(dim=0).clamp_(min=1e-12)
        return (values.div_(longest).mul_(LONGEST).round_().to(torch.int8).cpu().numpy(),)


def _tags(job: Job, *dates: str) -> dict[str, str]:
    """Ids of the items, best first."""
    some = dates or ("pre", "post")
    return {date: " ".join(item["id"] for item in getattr(job, date)) for date in some}
