"""Torch-free aliases and frozen value objects that more than one layer speaks of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any

from rscontrast.errors import BandError, CheckpointError, InputError, positive

type PathOrStr = str | PathLike[str]
"""A local path."""

type Bounds = tuple[float, float, float, float]
"""(xmin, ymin, xmax, ymax)."""

IGNORE = 255
"""Label of a pixel that is neither trained on nor scored; also the nodata of class maps."""


STRIDE = 32
"""Patches that a segmenter sees are multiples of this: the coarsest stride of the encoders."""


RES_TOLERANCE = 1.25
"""Largest ratio of the pixel sizes of what is looked at and what was trained on."""


@dataclass(frozen=True)
class SensorContract:
    """What an encoder was fed: it travels with the weights and is checked when they are used."""

    bands: tuple[str, ...]
    """Names of the bands, in channel order."""
    res: float
    """Pixel size on the ground, metres."""
    mean: tuple[float, ...]
    """Mean of each band, in reflectance (after scale and offset) times ``scale``."""
    std: tuple[float, ...]
    """Standard deviation of each band, in reflectance times ``scale``."""
    scale: float = 1.0
    """What a reflectance of 1 is in the numbers: 1, or 255 for pictures of eight bits."""

    def __post_init__(self) -> None:
        """Refuse statistics that do not fit the bands."""
        if not self.bands or not len(self.bands) == len(self.mean) == len(self.std):
            got = (len(self.bands), len(self.mean), len(self.std))
            raise InputError("contract", got, "one mean and one std for each of 1 or more bands")
        positive("scale", self.scale)

    def require(self, data: "Sequence[str] | SensorContract") -> None:
        """Refuse data other than those of the contract.

        Args:
            data: names of the bands, in order, or the data's own contract, whose scale and pixel
                size are compared too; its mean and std may differ.

        Raises:
            BandError: other bands, or another order; names both lists.
            InputError: another scale, or pixels more than 1.25 times as large or as small.
        """
        bands = data.bands if isinstance(data, SensorContract) else tuple(data)
        if bands != self.bands:
            allowed = f"{self.bands}, as the checkpoint was trained; adapt=True fits it to others"
            raise BandError("bands", bands, allowed)
        if isinstance(data, SensorContract):
            if data.scale != self.scale:
                allowed = f"{self.scale:g}, as the checkpoint was trained; adapt=True fits it"
                raise InputError("scale", data.scale, allowed)
            if not 1 / RES_TOLERANCE <= data.res / self.res <= RES_TOLERANCE:
                allowed = f"about {self.res:g} m, as the checkpoint was trained; resample the data"
                raise InputError("res", data.res, f"{allowed}, or fine-tune with adapt=True")

    def adapted(self, data: "Sequence[str] | SensorContract") -> "SensorContract":
        """The contract of the same encoder once it is fitted to other data.

        Bands that both know keep the mean and the std that the weights were trained with, in the
        data's scale. New bands take those of the data. The pixel size is the data's.

        Args:
            data: names of the bands, in order, or the data's own contract; the latter if any band
                is new.

        Raises:
            BandError: a band is new and nothing says its mean and std, or no band is kept.
        """
        bands = data.bands if isinstance(data, SensorContract) else tuple(data)
        known = dict(zip(self.bands, zip(self.mean, self.std, strict=True), strict=True))
        new = tuple(band for band in bands if band not in known)
        if len(new) == len(bands) or len(set(bands)) < len(bands):
            allowed = f"at least one of {self.bands}, as the checkpoint was trained, none twice"
            raise BandError("bands", bands, allowed)
        if not isinstance(data, SensorContract):
            if new:
                allowed = f"some of {self.bands}, or the contract of the data: {new} need a mean"
                raise BandError("bands", bands, allowed)
            return replace(self, bands=bands, **_columns([known[band] for band in bands]))
        ratio = data.scale / self.scale
        own = dict(zip(data.bands, zip(data.mean, data.std, strict=True), strict=True))
        kept = {band: (mean * ratio, std * ratio) for band, (mean, std) in known.items()}
        return replace(data, **_columns([(own | kept)[band] for band in bands]))

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
            # Contracts were of reflectance only before they had a scale.
            return cls(res=float(data["res"]), scale=float(data.get("scale", 1.0)), **lists)
        except KeyError as error:
            raise CheckpointError(f"sensor contract without {error}; save it again") from error


def _columns(statistics: Sequence[tuple[float, float]]) -> dict[str, Any]:
    mean, std = zip(*statistics, strict=True)
    return {"mean": mean, "std": std}
