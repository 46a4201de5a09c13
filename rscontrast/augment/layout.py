"""The shapes that batches and samples come in, and the one that views are made of."""

import torch
from torch import Tensor
from torchgeo.datasets.utils import Sample

from rscontrast.augment.warp import Warp
from rscontrast.errors import InputError
from rscontrast.types import IGNORE

LOCATED = ("transform", "bounds", "dates")
"""What a sample of a GeoDataset has one axis of, and a batch two."""
NO_RASTERS = (*LOCATED, "view_matrix", "view_transform", "rectangle", "turned")
"""What may have more than two axes without being a raster: also that of views of views."""


def is_single(batch: Sample) -> bool:
    """Whether a sample lacks the batch's axis, as far as its tensors tell.

    Raises:
        InputError: there is no image, or ``dates`` alone do not tell.
    """
    image = batch.get("image")
    if not isinstance(image, Tensor):
        raise InputError("image", type(image).__name__, "a tensor under that key of the batch")
    if image.ndim != 4:
        return image.ndim == 3
    told = {key: batch[key].ndim == 1 for key in LOCATED if isinstance(batch.get(key), Tensor)}
    if told.keys() == {"dates"} and told["dates"]:
        allowed = "[B, D] of a batch, or `transform` beside them, [9] of a sample or [B, 9]"
        raise InputError("dates", list(batch["dates"].shape), allowed)
    return any(told[key] for key in told if key != "dates")


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


def checked(batch: Sample, bands: int) -> Sample:
    """Return the tensors that views are made of; see :meth:`PairViews.forward`.

    ``image`` as :func:`as_dates` has it, ``valid`` as :func:`usable`.

    Raises:
        InputError: a tensor of another shape, named, and what it may have.
    """
    image = as_dates(batch["image"], bands)
    made: Sample = {"image": image}
    samples, height, width = len(image), *image.shape[-2:]
    for key, value in batch.items():
        if not isinstance(value, Tensor) or key == "image":
            continue
        if key == "valid":
            made[key] = usable(value, image)
        elif key == "transform" and tuple(value.shape) not in {(samples, 6), (samples, 9)}:
            raise InputError(key, list(value.shape), f"[{samples}, 9] or [{samples}, 6]")
        elif value.ndim > 2 and key not in NO_RASTERS:
            found = (len(value), *value.shape[-2:])
            if value.ndim > 5 or found != (samples, height, width):
                allowed = f"[{samples}, (D, K,) {height}, {width}] as the image, or leave it out"
                raise InputError(key, list(value.shape), allowed)
            if value.dtype == torch.int8:
                allowed = f"uint8 or int16: {IGNORE} stands for what lies beyond the patch"
                raise InputError(key, "int8", allowed)
        made[key] = made.get(key, value)
    return {key: value for key, value in made.items() if value.ndim > 1}


def usable(valid: Tensor, image: Tensor) -> Tensor:
    """Pixels usable in all bands, [B, D, 1, H, W]; D is 1 where ``valid`` is of all dates.

    Args:
        valid: [B, H, W], [B, D, H, W], [B, D * C, H, W] or [B, D, C, H, W].
        image: [B, D, C, H, W].

    Raises:
        InputError: another shape.
    """
    samples, dates, bands, height, width = image.shape
    axes = {(): (1, 1), (1,): (1, 1), (dates,): (dates, 1), (dates * bands,): (dates, bands)}
    axes |= {each: each for each in ((1, 1), (dates, 1), (dates, bands))}
    middle = tuple(valid.shape[1:-2])
    if (len(valid), *valid.shape[-2:]) != (samples, height, width) or middle not in axes:
        shape = [samples, height, width]
        allowed = f"{shape}, with {dates} (dates), {bands} (bands) of each, or both in between"
        raise InputError("valid", list(valid.shape), allowed)
    known = valid.bool().reshape(samples, *axes[middle], height, width)
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
        beyond = ~warp.inside.unsqueeze(2)
        return warp.continuous(planes).masked_fill_(beyond, torch.nan).to(planes.dtype)
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
