"""What an operation on reflectance is, and how a list of them runs over a batch."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from rscontrast.augment.colour import compose, recolour, through

type Params = Mapping[str, Tensor]
"""What an operation drew: the first axis of each tensor is the image."""


class Operation(Protocol):
    """Settings of an operation, frozen; what is drawn from them repeats it bit for bit."""

    @property
    def p(self) -> float:
        """Probability that an image is changed at all."""

    def draw(
        self,
        count: int,
        bands: int,
        shape: tuple[int, int],
        *,
        device: torch.device | str,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Draw for ``count`` images [bands, *shape]; an image left out gets what changes nothing.

        Returns:
            float32 tensors, each with ``count`` as its first axis.
        """

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Change ``images`` [N, C, H, W] by what was drawn; every pixel counts as usable."""


@runtime_checkable
class Affine(Operation, Protocol):
    """An operation that is affine in the bands: neighbours in a list share one pass."""

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """Return the map [N, C, C + 1], given the images' ``mean`` [N, C] just before it."""


def run(
    operations: Sequence[Operation],
    images: Tensor,
    params: Sequence[Params] | None = None,
    *,
    valid: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, list[Params]]:
    """Run ``operations`` in their order, each image by its own numbers.

    The result is kept within [min(0, lowest), max(1, highest)] of each image as it came: physical
    reflectance, and what changes nothing leaves every bit alone. It is clamped once, at the end.

    Args:
        operations: those that are affine in the bands are fused with their neighbours.
        images: reflectance [N, C, H, W], any C; float.
        params: what an earlier run returned; None draws anew.
        valid: [N, H, W] bool. Unusable pixels (of any value, NaN too) come out as they came, and
            count meanwhile as the mean of the usable ones. None: all usable, which is cheaper.
        generator: draws on its own device, so that one seed means one thing on any device; None
            draws from the global one of the images' device.

    Returns:
        images and, for each operation, what it drew.
    """
    drawn = draw_all(operations, images, generator) if params is None else list(params)
    known = images if valid is None else _filled(images, valid.unsqueeze(1))
    out = known
    pairs = zip(operations, drawn, strict=True)
    for affine, group in groupby(pairs, key=lambda pair: isinstance(pair[0], Affine)):
        out = _fused(out, list(group)) if affine else _chained(out, list(group))
    out = _bounded(out, known) if operations else out
    return (out if valid is None else torch.where(valid.unsqueeze(1), out, images)), drawn


def draw_all(
    operations: Sequence[Operation], images: Tensor, generator: torch.Generator | None = None
) -> list[Params]:
    """Draw for each operation; see :func:`run`."""
    count, bands, height, width = images.shape
    device = images.device if generator is None else generator.device
    drawn = (
        operation.draw(count, bands, (height, width), device=device, generator=generator)
        for operation in operations
    )
    return [{name: value.to(images.device) for name, value in one.items()} for one in drawn]


def _fused(images: Tensor, group: Sequence[tuple[Operation, Params]]) -> Tensor:
    mean = images.mean(dim=(-2, -1), dtype=torch.float32)
    whole: Tensor | None = None
    for operation, params in group:
        assert isinstance(operation, Affine)
        matrix = operation.matrix(params, mean)
        mean = through(matrix, mean)
        whole = matrix if whole is None else compose(whole, matrix)
    return images if whole is None else recolour(images, whole)


def _chained(images: Tensor, group: Sequence[tuple[Operation, Params]]) -> Tensor:
    for operation, params in group:
        images = operation.apply(images, params)
    return images


def _filled(images: Tensor, known: Tensor) -> Tensor:
    """Unusable pixels become the mean of the usable ones, or 0 where there are none."""
    usable = torch.where(known, images, 0)
    count = known.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    mean = usable.sum(dim=(-2, -1), keepdim=True, dtype=torch.float32) / count
    return torch.where(known, images, mean.to(images.dtype))


def _bounded(images: Tensor, before: Tensor) -> Tensor:
    low, high = before.flatten(1).aminmax(dim=1)
    shape = (-1, 1, 1, 1)
    return images.clamp(low.clamp(max=0).view(shape), high.clamp(min=1).view(shape))
