"""The shapes that batches and samples come in, and the one that views are made of."""

import torch
from torch import Tensor
from torchgeo.datasets.utils import Sample

from rscontrast.augment.warp import Warp
from rscontrast.errors import InputError
from rscontrast.types import IGNORE

LOCATED = ("transform", "bounds", "dates")
"""What a sample of a GeoDataset has one axis of, and a batch two."""


def is_single(batch: Sample) -> bool:
    """Whether a sample lacks the batch's axis, as far as its tensors tell."""
    located = [key for key in LOCATED if key in batch]
    return batch["image"].ndim == 3 or any(batch[key].ndim == 1 for key in located)


def as_dates(image: Tensor, bands: int) -> Tensor:
    """Bring the layouts of one or more dates to one.

    Args:
        image: [B, D, C, H, W], [B, D * C, H, W] or [B, C, H, W].
        bands: C.

    Returns:
        [B, D, C, H, W].

    Raises:
        InputError: another shape.
    """
    if image.ndim == 4 and image.shape[1] % bands == 0:
        image = torch.unflatten(image, 1, (-1, bands))
    if image.ndim != 5 or image.shape[2] != bands:
        allowed = f"[B, 2, {bands}, H, W] or [B, {bands}, H, W], or one of them without B"
        raise InputError("image", list(image.shape), allowed)
    return image


def usable(valid: Tensor, dates: int) -> Tensor:
    """Pixels usable in all bands, [B, D, 1, H, W]; D is 1 where ``valid`` is of all dates.

    Args:
        valid: [B, H, W], [B, D, H, W], of one date [B, C, H, W], or [B, D, C, H, W].
        dates: D.
    """
    known = valid.bool()
    if known.ndim == 3:
        known = known[:, None, None]
    elif known.ndim == 4:
        known = known.unsqueeze(1 if dates == 1 else 2)
    return known.all(dim=2, keepdim=True)


def extras(warp: Warp, batch: Sample) -> Sample:
    """Every other raster of the patch, read under the views."""
    made: Sample = {}
    for key, raster in batch.items():
        is_raster = isinstance(raster, Tensor) and raster.ndim in (3, 4, 5)
        if key in ("image", "valid") or not is_raster or tuple(raster.shape[-2:]) != warp.shape:
            continue
        planes = raster[:, None, None] if raster.ndim == 3 else raster
        planes = planes.unsqueeze(1) if planes.ndim == 4 else planes
        views = _extra(warp, key, planes)
        made[key] = views.squeeze(2) if raster.ndim == 3 else views
    return made


def _extra(warp: Warp, key: str, planes: Tensor) -> Tensor:
    if planes.is_floating_point() and key != "mask":
        inside = warp.inside.unsqueeze(2)
        return torch.where(inside, warp.continuous(planes), torch.nan).to(planes.dtype)
    return warp.nearest(planes, outside=False if planes.dtype == torch.bool else IGNORE)


def as_pair(image: Tensor, in_channels: int) -> Tensor:
    """Bring both layouts of a pair to one.

    Args:
        image: [B, 2, C, H, W] or [B, 2C, H, W].
        in_channels: C.

    Returns:
        [B, 2, C, H, W].

    Raises:
        InputError: another shape.
    """
    if image.ndim == 4 and image.shape[1] == 2 * in_channels:
        image = torch.unflatten(image, 1, (2, in_channels))
    if image.ndim != 5 or image.shape[1:3] != (2, in_channels):
        allowed = f"[B, 2, {in_channels}, H, W] or [B, {2 * in_channels}, H, W]"
        raise InputError("image", list(image.shape), allowed)
    return image
