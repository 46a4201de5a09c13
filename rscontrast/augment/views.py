"""Patches become views: one warp for the geometry, then the spectrum, then the mean taken out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.augment.blur import Blur
from rscontrast.augment.cutout import RegionCutout
from rscontrast.augment.device import precise
from rscontrast.augment.draws import within
from rscontrast.augment.geometry import Dihedral, draw, rectangles, to_map, turned
from rscontrast.augment.layout import checked, extras, is_single
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

ROUNDING = 1e-4
HALF = 0.5 - ROUNDING


class PairViews(nn.Module):
    """Batch in, augmented and normalised views out; everything on the device of the batch.

    What was drawn comes along as ``params``; given again, it gives the same views bit for bit.

    It takes single samples too, without the batch's axis, so it also serves as ``transforms=`` of
    a dataset. A sample [2, C, H, W] looks like a batch [B, C, H, W]: it is one where ``transform``
    or ``bounds`` have one axis, as in every sample of a GeoDataset; ``dates`` alone do not tell.
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
        dihedral: Dihedral = True,
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
            dihedral: all symmetries of the view are equally likely; "flips": those that do not turn
                it by a quarter, so that ``rectangle`` tells all; False: it stays upright.
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
                reflectance; ``valid`` [B, 2, H, W] or [B, H, W] bool, or of each band in the
                image's layout, without it all pixels are;
                ``transform`` [B, 9] where views shall be placed on the map. Every other tensor
                [B, (K,) H, W] or [B, D, K, H, W] is an extra raster, the last one of D dates.
            params: of an earlier call, to repeat it.

        Returns:
            the batch with ``image`` [B, V, C, h, w] normalised, 0 where not ``valid`` [B, V, h, w]
            bool; extras [B, V, (K,) h, w], floats bilinear with NaN beyond the patch, ``mask`` and
            whatever is no float at the nearest pixel, of the dtype it had, with 255 beyond (False
            of bools); ``view_matrix`` [B, V, 3, 3], view pixels to patch pixels, centres at whole
            numbers; ``rectangle`` [B, V, 4], see :func:`rscontrast.augment.geometry.rectangles`,
            which does not tell all of views that are ``turned`` [B, V] by a quarter;
            ``view_transform`` [B, V, 3, 3] float64, centres of view pixels to map coordinates; and
            ``params``. Of a single sample all of it without the first axis, and without
            ``params``, which do not stack.

        Raises:
            InputError: another shape, or ``params`` of another one.
        """
        single = is_single(batch)
        with precise(batch["image"].device):
            return self._single(batch, params) if single else self._views(batch, params)

    def _single(self, sample: Sample, params: ViewParams | None) -> Sample:
        alone = {k: v.unsqueeze(0) for k, v in sample.items() if isinstance(v, Tensor)}
        made = self._views(alone, params, single=True)
        return sample | {k: v.squeeze(0) for k, v in made.items() if isinstance(v, Tensor)}

    def _views(self, batch: Sample, params: ViewParams | None, single: bool = False) -> Sample:
        tensors = checked(batch, len(self.normalise.mean))
        image = tensors["image"]
        if params is None:
            seeds, given = self.seeds, batch["image"]
            drawn = seeds.sample(given[0]) if single else seeds.batch(given.device)
            params = self._drawn(image, drawn)
        self._require(params, image)
        parts = [
            self._part({k: v[rows] for k, v in tensors.items()}, params[rows])
            for rows in self._rows(image)
        ]
        made: dict[str, Any] = {**parts[0], "params": params}
        if len(parts) > 1:
            made |= {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {**batch, **made}

    def _rows(self, image: Tensor) -> list[slice]:
        """Samples that are seen to at once: on a CPU as many as its cache holds, else all.

        All of them too where samples take pixels of each other.
        """
        h, w = self.geometry.size
        sample = 4 * self.views * image.shape[2] * h * w
        whole = self._mixes or not image.is_cpu
        step = max(1, len(image) if whole else CACHED // sample)
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
        drawn = draw_all(self.operations, views, generator, self.views)
        operations = tuple(self._unflat(one) for one in drawn)
        return ViewParams(matrix, operations, self._names, self.geometry.size, shape)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(type(one).__name__ for one in self.operations)

    @property
    def _mixes(self) -> bool:
        return any(one.mixes for one in self.operations)

    def _part(self, batch: Sample, params: ViewParams) -> Sample:
        """Views of some samples, and all that comes along with them."""
        image, matrix = batch["image"], params.matrix
        shape = (image.shape[-2], image.shape[-1])
        warp = Warp(matrix, self.geometry.size, shape, self.geometry.readings(shape))
        seen, valid = self._seen(warp, image, batch.get("valid"))
        given = [_flat(one) for one in params.operations]
        changed, _ = run(self.operations, seen.flatten(0, 1), given, valid=valid.flatten(0, 1))
        made = self.normalise(torch.unflatten(changed, 0, (-1, self.views)), valid)
        # As precise as it came; what came as whole numbers has become something else.
        made = made.to(image.dtype) if image.is_floating_point() else made
        where = {
            "view_matrix": matrix,
            "rectangle": rectangles(matrix, self.geometry.size, shape),
            "turned": turned(matrix),
        }
        if "transform" in batch:
            where["view_transform"] = to_map(matrix, batch["transform"])
        return {
            **extras(warp, batch),
            **where,
            "image": made.flatten(1, 2) if self.flatten else made,
            "valid": valid,
        }

    def _require(self, params: ViewParams, image: Tensor) -> None:
        """Refuse parameters of another batch or of another recipe."""
        if not isinstance(params, ViewParams):
            raise InputError("params", type(params).__name__, "the ViewParams of an earlier call")
        wanted = (len(image), self.views, self.geometry.size, tuple(image.shape[-2:]), self._names)
        got = (*params.matrix.shape[:2], params.size, params.shape, params.names)
        if got != wanted:
            allowed = f"{wanted}: samples, views, their size, the patches', and operations"
            raise InputError("params", got, allowed)
        if self._mixes and not params.whole:
            allowed = "those of the whole batch: its samples take pixels of each other"
            raise InputError("params", f"{len(params)} samples of a batch", allowed)

    def _seen(self, warp: Warp, image: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Views [B, V, C, h, w] of reflectance and their usable pixels [B, V, h, w].

        A pixel is the mean of the usable ones that it is read from, by their weights; it is usable
        where they have at least half of the weight.
        """
        # Only a CPU can be asked without waiting for it; the result is the same, bit for bit.
        if valid is None or (valid.is_cpu and bool(valid.all())):
            return warp.continuous(image), warp.inside
        share = warp.continuous(valid.to(image.dtype))
        # What is 1 but for rounding is 1: without an unusable neighbour nothing is divided.
        share = share.masked_fill_(share > 1 - ROUNDING, 1)
        seen = warp.continuous(image.masked_fill(~valid, 0)).div_(share.clamp(min=HALF))
        return seen, warp.inside & (share >= HALF).squeeze(2)

    def _unflat(self, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """[B * V, ...] as [B, V, ...]."""
        return {k: torch.unflatten(v, 0, (-1, self.views)) for k, v in drawn.items()}


def _flat(drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.flatten(0, 1) for name, value in drawn.items()}


def _scale(least: float) -> tuple[float, float]:
    within("min_scale", least, 0, 1)
    if least == 0:
        raise InputError("min_scale", least, "a share above 0 and up to 1")
    return least, 1.0


def _cutout(share: float) -> RegionCutout:
    within("cutout", share, 0, 1)
    if share == 1:
        raise InputError("cutout", share, "a share, 0 to below 1")
    return RegionCutout((share, share))


def _operations(
    preset: str, operations: tuple[Operation, ...], given: Mapping[str, float]
) -> tuple[Operation, ...]:
    """Operations of the preset, those of ours with the arguments that are ``given``."""
    for name, value in given.items():
        if preset != OURS:
            raise InputError(name, value, f"not given with the preset {preset!r}")
        if name == "blur":
            within(name, value, 0, 1)
    return tuple(_changed(one, given) for one in operations)


def _changed(one: Operation, given: Mapping[str, float]) -> Operation:
    if isinstance(one, Gain):
        return replace(one, **{name: value for name, value in given.items() if name != "blur"})
    if isinstance(one, Blur) and "blur" in given:
        return replace(one, p=given["blur"])
    return one
