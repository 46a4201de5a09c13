"""What the rooms of a run hand to each other: a job, the settings of all, what came of one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import choose, whole
from rscontrast.io.read import ItemSource, item_source
from rscontrast.stac.provider import GENERIC, Provider

type Item = dict[str, Any]
"""A row of an items' frame."""

WINDOWS = ("cosine", "flat")
PRECISIONS = ("fp32", "bf16", "int8")


@dataclass(frozen=True)
class Job:
    """One tile to map."""

    id: str
    """File-safe and unique: "32633_0123_0456" is the zone (EPSG), column, row of the tile grid."""
    geobox: GeoBox
    """The tile, without halo; all tiles of a zone lie on one lattice."""
    pre: tuple[Item, ...]
    """Items before, best first: a pixel is the first usable one."""
    post: tuple[Item, ...]
    """Items after, best first."""
    aoi: BaseGeometry | None = None
    """What is mapped of the tile, in its CRS; None: all of it."""
    halo: int = 0
    """Pixels that are read beyond the tile on each side."""

    def sources(
        self, bands: Sequence[str], provider: Provider | None = None
    ) -> tuple[list[ItemSource], list[ItemSource]]:
        """What to read of both dates.

        Raises:
            BandError: an item lacks a band.
        """
        publisher = provider or GENERIC
        pre, post = ([item_source(i, bands, publisher) for i in d] for d in (self.pre, self.post))
        return pre, post


@dataclass(frozen=True)
class Settings:
    """How every job of a run is mapped. What changes no pixel is marked ``effort``."""

    checkpoint: str
    """File of the weights; their content counts, not the name."""
    patch_size: int = 256
    """Side of a patch, pixels."""
    overlap: int = 64
    """Pixels that neighbouring patches share."""
    window: str = "cosine"
    """Weights of a patch's pixels: one of :data:`WINDOWS`."""
    precision: str = "fp32"
    """One of :data:`PRECISIONS`."""
    tta: bool = False
    """Whether the eight turns of a patch are averaged."""
    uncertainty: bool = False
    """Whether a band of uncertainty is written."""
    provider: Provider | None = None
    """Whose items they are; None: any that follow STAC's common metadata."""
    batch_size: int = field(default=16, metadata={"effort": True})
    """Patches at a time."""
    device: str = field(default="auto", metadata={"effort": True})
    """Where it is computed."""
    threads: int | None = field(default=None, metadata={"effort": True})
    """Threads of one worker; None: as many as it finds."""

    def __post_init__(self) -> None:
        """Refuse what no worker could do.

        Raises:
            InputError: a value out of range.
        """
        choose("window", self.window, WINDOWS)
        choose("precision", self.precision, PRECISIONS)
        whole("patch_size", self.patch_size)
        whole("batch_size", self.batch_size)
        if self.threads is not None:
            whole("threads", self.threads)
        object.__setattr__(self, "checkpoint", os.fspath(self.checkpoint))


@dataclass(frozen=True)
class Result:
    """What a job wrote."""

    id: str
    """Of the job."""
    files: dict[str, str]
    """sha256 of each file by its name, relative to the folder of the run."""
    km2: float
    """Ground that was mapped: valid pixels, square kilometres."""
    valid_share: float
    """Share of the tile's pixels that are valid, 0 to 1."""
    seconds: float
    """How long it took."""
    class_pixels: tuple[int, ...]
    """Pixels of each class."""
