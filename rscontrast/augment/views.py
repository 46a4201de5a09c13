"""Patches become views: one warp for the geometry, then the spectrum, then the mean taken out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.augment.blur import Blur
from rscontrast.augment.cutout import RegionCutout
from rscontrast.augment.geometry import draw, rectangles, to_map
from rscontrast.augment.layout import as_dates, extras, is_single, usable
from rscontrast.augment.named import named
from rscontrast.augment.normalise import Normalise
from rscontrast.augment.operations import Operation, draw_all, run
from rscontrast.augment.presets import recipe
from rscontrast.augment.replay import Seeds, ViewParams
from rscontrast.augment.spectral import Gain
from rscontrast.augment.warp import Warp
from rscontrast.errors import InputError, whole
from rscontrast.types import SensorContract

OURS = "reflectance"
"""The preset whose parts have arguments of their own."""
CACHED = 2**24
"""Bytes of views that are made at once on a CPU: what its cache holds goes through it all there."""


class PairViews(nn.Module):
    """Batch in, augmented and normalised views out; everything on the device of the batch.

    What was drawn comes along as ``params``; given again, it gives the same views bit for bit.

    It takes single samples too, without the batch's axis, so it also serves as ``transforms=`` of
    a dataset. A sample [2, C, H, W] looks like a batch [B, C, H, W]: it is one where ``transform``,
    ``bounds`` or ``dates`` say so, as in every sample of a GeoDataset.
    """

    def __init__(
        self,
        contract: SensorContract,
        size: int | tuple[int, int],
        *,
        preset: str = OURS,
        views: int = 2,
        min_scale: float | None = None,
        same_geometry: bool = False,
        dihedral: bool = True,
        min_overlap: float = 0.0,
        registration: float = 0.0,
        operations: Mapping[str, Mapping[str, Any] | None] | None = None,
        cutout: float = 0.0,
        gain: float | None = None,
        band_gain: float | None = None,
        offset: float | None = None,
        blur: float | None = None,
        flatten: bool = False,
        seed: int | None = None,
    ) -> None:
        """Set the recipe.

        Args:
            contract: bands and their statistics.
            size: (h, w) of a view, pixels, or one side for both.
            preset: what happens to the spectrum, and the default of ``min_scale``: a name of
                :data:`rscontrast.augment.presets.PRESETS`.
            views: of each patch; of two dates by turns. Some presets treat every second view
                otherwise: then an even number.
            min_scale: least share (0-1] of the patch's area that a view shows.
            same_geometry: all views get the same crop and symmetry.
            dihedral: all symmetries of the view are equally likely; else it stays upright.
            min_overlap: least share (0-1) of the smaller of any two views that the other holds.
            registration: patch pixels by up to which each view is moved along x and y, as dates
                that are not registered well.
            operations: more of them, after those of the preset: names and fields, see
                :func:`rscontrast.augment.named.named`.
            cutout: share (0-1) of each of nine regions that is cut out of half of the views, see
                :class:`rscontrast.augment.cutout.RegionCutout`; 0: none.
            gain: of "reflectance", see :class:`rscontrast.augment.SpectralJitter`, also the next
                two; 0.3.
            band_gain: of each band; 0.1.
            offset: in reflectance; 0.02.
            blur: of "reflectance": probability of a Gaussian blur, sigma U(0.1, 2) pixels; 0.3.
            flatten: views as [B, V * C, h, w], with two views the layout of TorchGeo's own tasks.
            seed: of all draws, see :class:`rscontrast.augment.replay.Seeds`; None: torch's own.

        Raises:
            InputError: out of range, or an argument that the preset does not have.
        """
        super().__init__()
        chosen = recipe(preset, contract, size)
        self.geometry = replace(
            chosen.geometry,
            scale=chosen.geometry.scale if min_scale is None else _scale(min_scale),
            dihedral=dihedral, min_overlap=min_overlap, registration=registration,
            same=same_geometry,
        )  # fmt: skip
        own = {"gain": gain, "band_gain": band_gain, "offset": offset, "blur": blur}
        given = {name: value for name, value in own.items() if value is not None}
        own_ones = _operations(preset, chosen.operations, given)
        all_of = replace(chosen, operations=(*own_ones, *named(operations or {})))
        self.operations = all_of.operations
        if cutout != 0:
            self.operations += (_cutout(cutout),)
        self.views, self.flatten = whole("views", views, multiple=all_of.period), flatten
        self.seeds = Seeds(seed)
        self.normalise = Normalise(contract)

    @torch.no_grad()
    def forward(self, batch: Sample, params: ViewParams | None = None) -> Sample:
        """Make views.

        Args:
            batch: ``image`` [B, 2, C, H, W] (view v is of date v % 2) or [B, C, H, W],
                reflectance; ``valid`` [B, 2, H, W] or [B, H, W] bool, without it all pixels are;
                ``transform`` [B, 9] where views shall be placed on the map. Every other tensor
                [B, (K,) H, W] or [B, D, K, H, W] is an extra raster, the last one of D dates.
            params: of an earlier call, to repeat it.

        Returns:
            the batch with ``image`` [B, V, C, h, w] normalised, 0 where not ``valid`` [B, V, h, w]
            bool; extras [B, V, (K,) h, w], floats bilinear with NaN beyond the patch, ``mask`` and
            whatever is no float at the nearest pixel, of the dtype it had, with 255 beyond (False
            of bools); ``view_matrix`` [B, V, 3, 3], view pixels to patch pixels, centres at whole
            numbers; ``rectangle`` [B, V, 4], see :func:`rscontrast.augment.geometry.rectangles`;
            ``view_transform`` [B, V, 3, 3] float64, centres of view pixels to map coordinates; and
            ``params``. Of a single sample all of it without the first axis, and without
            ``params``, which do not stack.

        Raises:
            InputError: another shape, or ``params`` of another one.
        """
        if is_single(batch):
            return self._single(batch, params)
        return self._views(batch, params, self.seeds.batch(batch["image"].device))

    def _single(self, sample: Sample, params: ViewParams | None) -> Sample:
        alone = {k: v.unsqueeze(0) for k, v in sample.items() if isinstance(v, Tensor)}
        made = self._views(alone, params, self.seeds.sample(sample["image"]))
        return sample | {k: v.squeeze(0) for k, v in made.items() if isinstance(v, Tensor)}

    def _views(
        self, batch: Sample, params: ViewParams | None, generator: torch.Generator | None
    ) -> Sample:
        image = as_dates(batch["image"], len(self.normalise.mean))
        params = self._drawn(image, generator) if params is None else params
        self._require(params, len(image))
        tensors = {k: v for k, v in batch.items() if isinstance(v, Tensor) and v.ndim > 1}
        tensors["image"] = image
        parts = [
            self._part({k: v[rows] for k, v in tensors.items()}, params[rows])
            for rows in self._rows(image)
        ]
        made: dict[str, Any] = {**parts[0], "params": params}
        if len(parts) > 1:
            made |= {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {**batch, **made}

    def _rows(self, image: Tensor) -> list[slice]:
        """Samples that are seen to at once: on a CPU as many as its cache holds, else all."""
        h, w = self.geometry.size
        sample = 4 * self.views * image.shape[2] * h * w
        step = max(1, CACHED // sample if image.is_cpu else len(image))
        return [slice(first, first + step) for first in range(0, max(1, len(image)), step)]

    def _drawn(self, image: Tensor, generator: torch.Generator | None) -> ViewParams:
        samples, shape = len(image), (image.shape[-2], image.shape[-1])
        matrix = draw(
            self.geometry, samples, self.views, shape, device=image.device, generator=generator
        )
        # Draws need no more of the views than their shape.
        views = image.new_empty(()).expand(
            samples * self.views, image.shape[2], *self.geometry.size
        )
        drawn = draw_all(self.operations, views, generator)
        return ViewParams(matrix, tuple(self._unflat(one) for one in drawn))

    def _part(self, batch: Sample, params: ViewParams) -> Sample:
        """Views of some samples, and all that comes along with them."""
        image, matrix = batch["image"], params.matrix
        shape = (image.shape[-2], image.shape[-1])
        warp = Warp(matrix, self.geometry.size, shape, self.geometry.readings(shape))
        seen, valid = self._seen(warp, image, batch.get("valid"))
        given = [_flat(one) for one in params.operations]
        changed, _ = run(self.operations, seen.flatten(0, 1), given)
        made = self.normalise(torch.unflatten(changed, 0, (-1, self.views)), valid)
        # As precise as it came; what came as whole numbers has become something else.
        made = made.to(image.dtype) if image.is_floating_point() else made
        where = {"view_matrix": matrix, "rectangle": rectangles(matrix, self.geometry.size, shape)}
        if "transform" in batch:
            where["view_transform"] = to_map(matrix, batch["transform"])
        return {
            **extras(warp, batch),
            **where,
            "image": made.flatten(1, 2) if self.flatten else made,
            "valid": valid,
        }

    def _require(self, params: ViewParams, samples: int) -> None:
        """Refuse parameters of another batch or of another recipe."""
        wanted = (samples, self.views, len(self.operations))
        got = (*params.matrix.shape[:2], len(params.operations))
        if got != wanted:
            raise InputError("params", got, f"of {wanted} samples, views and operations")

    def _seen(self, warp: Warp, image: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Views [B, V, C, h, w] of reflectance and their usable pixels [B, V, h, w]."""
        if valid is None:
            return warp.continuous(image), warp.inside
        known = usable(valid, image.shape[1])
        # A crop and a blur mix neighbours: an unusable one counts as the mean, not as black.
        filled = torch.where(known, image, self.normalise.mean.to(image.device))
        return warp.continuous(filled), warp.nearest(known, outside=False).squeeze(2)

    def _unflat(self, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """[B * V, ...] as [B, V, ...]."""
        return {k: torch.unflatten(v, 0, (-1, self.views)) for k, v in drawn.items()}


def _flat(drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.flatten(0, 1) for name, value in drawn.items()}


def _scale(least: float) -> tuple[float, float]:
    if not 0 < least <= 1:
        raise InputError("min_scale", least, "a share above 0 and up to 1")
    return least, 1.0


def _cutout(share: float) -> RegionCutout:
    if not 0 < share < 1:
        raise InputError("cutout", share, "a share, 0 to below 1")
    return RegionCutout((share, share))


def _operations(
    preset: str, operations: tuple[Operation, ...], given: Mapping[str, float]
) -> tuple[Operation, ...]:
    """Operations of the preset, those of ours with the arguments that are ``given``."""
    for name, value in given.items():
        if preset != OURS:
            raise InputError(name, value, f"not given with the preset {preset!r}")
        if name == "blur" and not 0 <= value <= 1:
            raise InputError(name, value, "a probability")
    return tuple(_changed(one, given) for one in operations)


def _changed(one: Operation, given: Mapping[str, float]) -> Operation:
    if isinstance(one, Gain):
        return replace(one, **{name: value for name, value in given.items() if name != "blur"})
    if isinstance(one, Blur) and "blur" in given:
        return replace(one, p=given["blur"])
    return one
