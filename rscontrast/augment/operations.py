"""What an operation on reflectance is, and how a list of them runs over a batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import ClassVar

import torch
from torch import Tensor

from rscontrast.augment.colour import compose, recolour, through
from rscontrast.augment.draws import Draws, Probability

type Params = Mapping[str, Tensor]
"""What an operation drew: the first axis of each tensor is the image."""


class Operation(ABC):
    """Settings of an operation; what is drawn from them repeats it bit for bit."""

    p: Probability
    still: ClassVar[Mapping[str, float]]
    """The value of a parameter that changes nothing: what images left out by the coin get."""

    @property
    def mixes(self) -> bool:
        """Whether images take pixels of others of the batch, without which they do not repeat."""
        return False

    def draw(
        self,
        count: int,
        bands: int,
        shape: tuple[int, int],
        *,
        device: torch.device | str,
        generator: torch.Generator | None = None,
        views: int = 1,
    ) -> dict[str, Tensor]:
        """Draw for ``count`` images [bands, *shape]; an image left out gets what changes nothing.

        ``views`` of them, one after the other, are of one sample.

        Returns:
            tensors, each with ``count`` as its first axis.
        """
        draws = Draws(count, bands, shape, device, generator, views)
        coin = draws.coin(self.p)
        drawn = self.sample(draws)
        for name, value in self.still.items():
            chosen = coin.view(-1, *[1] * (drawn[name].ndim - 1))
            drawn[name] = drawn[name].masked_fill(~chosen, value)
        return drawn

    @abstractmethod
    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw for every image, without a coin."""

    @abstractmethod
    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Return ``images`` [N, C, H, W], all usable, as drawn: a new tensor of their dtype."""


class Affine(Operation):
    """An operation that is affine in the bands: neighbours in a list share one pass."""

    @abstractmethod
    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """Return the map [N, C, C + 1], given the images' ``mean`` [N, C] just before it."""

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Apply the map to every pixel."""
        return recolour(images, self.matrix(params, mean_spectrum(images)))


def mean_spectrum(images: Tensor) -> Tensor:
    """Return the mean of each band, float32 [N, C] (float64 of float64)."""
    dtype = torch.promote_types(images.dtype, torch.float32)
    return images.mean(dim=(-2, -1), dtype=dtype)


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
    # Only a CPU can be asked without waiting for it; the result is the same, bit for bit.
    if valid is not None and valid.is_cpu and bool(valid.all()):
        valid = None
    known = images if valid is None else _filled(images, valid.unsqueeze(1))
    out = known
    for group in _groups(operations, drawn):
        out = _fused(out, group) if isinstance(group[0][0], Affine) else _chained(out, group)
    out = out if out is known else _bounded(out, known)
    return (out if valid is None else torch.where(valid.unsqueeze(1), out, images)), drawn


def draw_all(
    operations: Sequence[Operation],
    images: Tensor,
    generator: torch.Generator | None = None,
    views: int = 1,
) -> list[Params]:
    """Draw for each operation; see :func:`run` and :meth:`Operation.draw`."""
    count, bands, height, width = images.shape
    device = images.device if generator is None else generator.device
    drawn = (
        operation.draw(
            count, bands, (height, width), device=device, generator=generator, views=views
        )
        for operation in operations
    )
    return [{name: value.to(images.device) for name, value in one.items()} for one in drawn]


type Group = list[tuple[Operation, Params]]


def _groups(operations: Sequence[Operation], drawn: Sequence[Params]) -> Iterator[Group]:
    pairs = zip(operations, drawn, strict=True)
    return (list(group) for _, group in groupby(pairs, lambda pair: isinstance(pair[0], Affine)))


def _fused(images: Tensor, group: Group) -> Tensor:
    mean = mean_spectrum(images)
    whole: Tensor | None = None
    for operation, params in group:
        assert isinstance(operation, Affine)
        matrix = operation.matrix(params, mean)
        mean = through(matrix, mean)
        whole = matrix if whole is None else compose(whole, matrix)
    assert whole is not None
    return recolour(images, whole)


def _chained(images: Tensor, group: Group) -> Tensor:
    for operation, params in group:
        images = operation.apply(images, params)
    return images


def _filled(images: Tensor, known: Tensor) -> Tensor:
    """Unusable pixels become the mean of the usable ones, or 0 where there are none."""
    count = known.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    dtype = torch.promote_types(images.dtype, torch.float32)
    total = images.masked_fill(~known, 0).sum(dim=(-2, -1), keepdim=True, dtype=dtype)
    return torch.where(known, images, (total / count).to(images.dtype))


def _bounded(images: Tensor, before: Tensor) -> Tensor:
    """Clamp in place: ``images`` is nobody else's."""
    low, high = before.amin(dim=(1, 2, 3), keepdim=True), before.amax(dim=(1, 2, 3), keepdim=True)
    return images.clamp_(low.clamp(max=0), high.clamp(min=1))
