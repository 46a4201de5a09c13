"""Torch-free aliases and frozen value objects that more than one layer speaks of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from rscontrast.errors import BandError, CheckpointError, InputError

type PathOrStr = str | PathLike[str]
"""A local path."""

type Bounds = tuple[float, float, float, float]
"""(xmin, ymin, xmax, ymax)."""

IGNORE = 255
"""Label of a pixel that is neither trained on nor scored; also the nodata of class maps."""

DAMAGE_CLASSES = ("background", "no-damage", "minor-damage", "major-damage", "destroyed")
"""Classes of xBD, in label order."""

STRIDE = 32
"""Patches that a segmenter sees are multiples of this: the coarsest stride of the encoders."""


@dataclass(frozen=True)
class SensorContract:
    """What an encoder was fed: it travels with the weights and is checked when they are used."""

    bands: tuple[str, ...]
    """Names of the bands, in channel order."""
    res: float
    """Pixel size on the ground, metres."""
    mean: tuple[float, ...]
    """Mean of each band, in reflectance (after scale and offset)."""
    std: tuple[float, ...]
    """Standard deviation of each band, in reflectance."""

    def __post_init__(self) -> None:
        """Refuse statistics that do not fit the bands."""
        if not self.bands or not len(self.bands) == len(self.mean) == len(self.std):
            got = (len(self.bands), len(self.mean), len(self.std))
            raise InputError("contract", got, "one mean and one std for each of 1 or more bands")

    def require(self, bands: Sequence[str]) -> None:
        """Refuse bands other than those of the contract, or in another order.

        Raises:
            BandError: names both lists.
        """
        if tuple(bands) != self.bands:
            raise BandError("bands", tuple(bands), f"{self.bands}, as the checkpoint was trained")

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, so that a checkpoint loads with ``weights_only=True``."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SensorContract":
        """Inverse of :meth:`to_dict`.

        Raises:
            CheckpointError: a field is missing.
        """
        try:
            lists = {k: tuple(data[k]) for k in ("bands", "mean", "std")}
            return cls(res=float(data["res"]), **lists)
        except KeyError as error:
            raise CheckpointError(f"sensor contract without {error}; save it again") from error
