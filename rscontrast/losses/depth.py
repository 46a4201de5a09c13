"""Depth as a filter on pairs of cells: near on the map, and at one height.

Source: arXiv 2211.10177, whose abstract says that exogenous depth is an additional selection
filter on pairs of pixels in training, with a multi-scale loss. The form of the filter, its
thresholds and the normalisation are a reconstruction. "Depth" is any raster on the patch's grid:
nDSM, DEM, height of buildings, SAR coherence; NaN where it is not known.
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from rscontrast.errors import InputError, choose, height_width, positive
from rscontrast.losses.dense import EPSILON

type Mode = Literal["hard", "soft"]
SPREAD = (0.05, 0.95)
"""Quantiles between which a patch's depths count as 1 apart."""
NOISE = 1e-5
"""A range that is a smaller share of the largest depth is of rounding: heights above the sea are
resampled in float32."""


class DepthOutput(NamedTuple):
    """Positives that depth has left, and what to log."""

    positives: Tensor
    """[N, I, J] float."""
    diagnostics: dict[str, Tensor]
    """``depth_kept_share`` of the positives, ``depth_fallback_share`` of the samples that have
    any, of :class:`DepthFilter` also ``depth_full_range_share`` of them; NaN where there is none.
    """


@torch.no_grad()
def pool_depth(depth: Tensor, cells: tuple[int, int]) -> Tensor:
    """Mean depth of each cell over the pixels that have one: [N, H, W] -> [N, h, w].

    NaN where no pixel of a cell does; infinite values count as unknown. A constant stays what it
    is, to the last bit.
    """
    if depth.ndim != 3:
        raise InputError("depth", tuple(depth.shape), "a shape [N, H, W]")
    depth = depth.to(torch.promote_types(depth.dtype, torch.float32)).unsqueeze(1)
    known = depth.isfinite()
    lowest = torch.where(known, depth, math.inf).amin((2, 3), keepdim=True)
    lowest = torch.where(lowest.isinf(), 0, lowest)
    share = adaptive_avg_pool2d(known.to(depth.dtype), height_width("cells", cells))
    # Above the lowest: the sum of heights above the sea would be rounded.
    above = torch.where(known, depth - lowest, 0)
    total = adaptive_avg_pool2d(above, height_width("cells", cells))
    return (total / share + lowest).squeeze(1)


@torch.no_grad()
def normalise_depth(
    query: Tensor, key: Tensor, *, least_range: float = 0.0
) -> tuple[Tensor, Tensor]:
    r"""Robust depth of a pair of views: :math:`(D - median) / (q_{95} - q_{05})`.

    Both views of a sample share one median and one range: by those of its own a place would be
    at another depth in each view. Where fewer than 5 % of the cells stand out of flat ground both
    quantiles are the ground's; the range is then the full one, highest less lowest. A range up to
    1e-5 of the largest depth is taken for rounding, and counts as 0.

    Args:
        query: [N, h, w] depth of the cells, NaN where unknown.
        key: [N, h', w'].
        least_range: a smaller range, in units of the depth, counts as this: on flat ground noise
            is not stretched to cliffs. 0 or more.

    Returns:
        both, in the same shapes; 0 where the range is 0, NaN where unknown.

    Raises:
        InputError: ``least_range`` out of range, or depths that are not of the same samples.
    """
    return _normalised(query, key, least_range)[:2]


def _normalised(query: Tensor, key: Tensor, least_range: float) -> tuple[Tensor, Tensor, Tensor]:
    """Both depths, and whose range is the full one: [N] boolean."""
    check_least_range(least_range)
    if query.ndim != 3 or key.ndim != 3 or len(query) != len(key):
        got = [tuple(query.shape), tuple(key.shape)]
        raise InputError("depth", got, "[N, h, w] and [N, h', w'] of the same samples")
    dtype = torch.promote_types(query.dtype, torch.float32)
    query, key = query.to(dtype), key.to(dtype)
    both = torch.cat([query.flatten(1), key.flatten(1)], dim=1)
    low, middle, high = both.nanquantile(both.new_tensor([SPREAD[0], 0.5, SPREAD[1]]), dim=1)
    lowest, highest = both.nanquantile(both.new_tensor([0.0, 1.0]), dim=1)
    noise = NOISE * torch.maximum(lowest.abs(), highest.abs())
    robust = high - low
    full = (robust <= noise) & (highest - lowest > noise)
    width = torch.where(full, highest - lowest, robust)
    scale = torch.where(width > noise, 1 / width.clamp(min=least_range), 0)
    query, key = ((depth - middle[:, None, None]) * scale[:, None, None] for depth in (query, key))
    return query, key, full


@torch.no_grad()
def depth_positives(
    positives: Tensor,
    depth_query: Tensor,
    depth_key: Tensor,
    mode: Mode = "hard",
    *,
    depth_threshold: float = 0.1,
    sigma: float = 0.1,
) -> DepthOutput:
    r"""Keep the positives whose two cells are at one depth.

    .. math:: hard: A_{ij}\,1[|D'_i - D'_j| < threshold], \qquad
              soft: A_{ij}\,e^{-(D'_i - D'_j)^2 / 2\sigma^2}

    Reconstruction, see the module. A pair of which a depth is unknown stays: nothing speaks
    against it. A sample that would keep nothing keeps A, and is counted.

    Args:
        positives: [N, h * w, h' * w'] A, boolean or 0 to 1, without what is not valid, see
            :func:`rscontrast.losses.dense.mask_positives`.
        depth_query: [N, h, w] D', see :func:`normalise_depth`; NaN where unknown.
        depth_key: [N, h', w'].
        mode: "hard" or "soft".
        depth_threshold: of "hard", above 0.
        sigma: of "soft", above 0.

    Returns:
        the positives that are left, and what to log.

    Raises:
        InputError: a shape that does not fit, or a setting out of range.
    """
    check_depth(mode, depth_threshold, sigma)
    wanted = (len(depth_query), *(depth.shape[1:].numel() for depth in (depth_query, depth_key)))
    if depth_query.ndim != 3 or depth_key.ndim != 3 or tuple(positives.shape) != wanted:
        got = [tuple(given.shape) for given in (positives, depth_query, depth_key)]
        raise InputError("positives", got, "[N, h * w, h' * w'], depths [N, h, w] and [N, h', w']")
    step = depth_query.flatten(1).unsqueeze(2) - depth_key.flatten(1).unsqueeze(1)
    positives = positives.to(step.dtype)
    if mode == "hard":
        alike = (step.abs() < depth_threshold).to(step.dtype)
    else:
        alike = (step / sigma).square().div(-2).exp()
    kept = positives * torch.where(step.isnan(), 1, alike)
    return _with_fallback(positives, kept)


class DepthFilter(nn.Module):
    """From two views' depth to their positives: pooled, normalised, filtered."""

    def __init__(
        self,
        mode: Mode = "hard",
        depth_threshold: float = 0.1,
        sigma: float = 0.1,
        least_range: float = 0.0,
    ) -> None:
        """Check and keep the arguments of :func:`depth_positives` and :func:`normalise_depth`.

        Raises:
            InputError: out of range.
        """
        super().__init__()
        check_depth(mode, depth_threshold, sigma)
        check_least_range(least_range)
        self.mode, self.depth_threshold = mode, depth_threshold
        self.sigma, self.least_range = sigma, least_range

    def forward(
        self,
        positives: Tensor,
        depth_query: Tensor,
        depth_key: Tensor,
        cells_query: tuple[int, int],
        cells_key: tuple[int, int],
    ) -> DepthOutput:
        """Filter ``positives`` by depths of views in pixels, [N, H, W]; cells are (h, w)."""
        query, key, full = _normalised(
            pool_depth(depth_query, cells_query), pool_depth(depth_key, cells_key), self.least_range
        )
        kept, logged = depth_positives(
            positives, query, key, self.mode,
            depth_threshold=self.depth_threshold, sigma=self.sigma,
        )  # fmt: skip
        overlap = positives.sum((1, 2)) > 0
        logged["depth_full_range_share"] = (overlap & full).sum() / overlap.sum()
        return DepthOutput(kept, logged)


def check_depth(mode: Mode, depth_threshold: float, sigma: float) -> None:
    """Refuse settings that :func:`depth_positives` does not take.

    Raises:
        InputError: names the first one.
    """
    choose("mode", mode, get_args(Mode.__value__))
    positive("depth_threshold", depth_threshold)
    positive("sigma", sigma)


def check_least_range(least_range: float) -> None:
    """Refuse a smallest range that :func:`normalise_depth` does not take.

    Raises:
        InputError: it is below 0, NaN or infinite.
    """
    if not 0 <= least_range < math.inf:
        raise InputError("least_range", least_range, "a finite number of 0 or more")


def _with_fallback(positives: Tensor, kept: Tensor) -> DepthOutput:
    count, left = positives.sum((1, 2)), kept.sum((1, 2))
    overlap, empty = count > 0, left <= EPSILON
    diagnostics = {
        "depth_kept_share": left.sum() / count.sum(),
        "depth_fallback_share": (overlap & empty).sum() / overlap.sum(),
    }
    return DepthOutput(torch.where(empty[:, None, None], positives, kept), diagnostics)
