"""Region collaborative cutout: parts of nine regions of a view are cut, on a grid of cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rscontrast.augment.draws import Draws, Probability, Range, interval, probability
from rscontrast.augment.operations import Operation, Params
from rscontrast.errors import choose, whole

AREA: Range = (0.12, 0.30)
"""Share of the view that a region covers."""
ASPECT: Range = (0.5, 2.0)
"""Height to width of a region."""

type Fill = Literal["mean", "swap"]


@dataclass(frozen=True)
class RegionCutout(Operation):
    """Cut about a share r of each of nine regions out of the image, r ~ U(*share).

    Source: region collaborative cutout of the follow-up to arXiv 2303.16947 (ICLR 2024, "Mind Your
    Augmentation"), with its released settings; see :func:`region_cutout`.

    What was cut becomes the image's mean, which is what an unusable pixel counts as ("mean"), or
    the same place of another sample's same view, the paper's background swap ("swap"; of a batch
    of one sample it stays as it is). Which sample that is, is drawn; what is unusable there counts
    as that image's mean.
    """

    share: Range = (0.2, 0.6)
    cells: int = 14
    fill: Fill = "mean"
    p: Probability = 0.5
    still: ClassVar[Mapping[str, float]] = {"cut": False}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        interval("share", self.share, 0, 1)
        whole("cells", self.cells, least=3)
        choose("fill", self.fill, get_args(Fill.__value__))
        probability("p", self.p)

    @property
    def mixes(self) -> bool:
        """To swap takes two."""
        return self.fill == "swap"

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``cut`` [N, S, S] bool, S the number of cells along a side.

        To swap also ``donor`` [N]: how many images after this one the other lies, by turns.
        """
        drawn = {"cut": region_cutout(draws, draws.uniform(*self.share), self.cells)}
        if self.mixes:
            others = max(1, draws.count // draws.views - 1)
            sample = 1 + (draws.unit() * others).long().clamp(max=others - 1)
            drawn["donor"] = sample * draws.views
        return drawn

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Fill what was cut."""
        shape = (images.shape[-2], images.shape[-1])
        cut = spread(params["cut"], shape).unsqueeze(1)
        if self.mixes:
            own = torch.arange(len(images), device=images.device)
            return torch.where(cut, images[(own + params["donor"]) % len(images)], images)
        return torch.where(cut, images.mean(dim=(-2, -1), keepdim=True), images)


def region_cutout(draws: Draws, share: Tensor, cells: int) -> Tensor:
    """Draw which cells to cut.

    Nine regions, one for each part of a 3 x 3 layout: centre uniform in the central half of the
    part, area U(.12, .30) of the view, aspect log-uniform in [.5, 2], clipped to the view. The
    largest comes first. Where more than ``share`` of a region is cut already all of it is restored;
    then one rectangle of what is missing to ``share``, of the region's aspect, is cut in it.

    Args:
        draws: of [N] images.
        share: [N], 0 to 1; 0 cuts nothing.
        cells: S, along a side of the view.

    Returns:
        bool [N, S, S]; its mean is about ``share`` + .02: smaller regions are seen to after the
        larger ones that they overlap.
    """
    regions = _regions(draws, cells)
    place = draws.unit(9, 2)
    cut = torch.zeros(draws.count, cells, cells, dtype=torch.bool, device=draws.device)
    for part in range(9):
        region = regions[:, part]
        inside = _boxes(region, cells)
        area = inside.sum(dim=(1, 2))
        taken = (cut & inside).sum(dim=(1, 2)) / area
        over = taken > share
        cut = cut & ~(inside & over[:, None, None])
        wanted = (share - taken.masked_fill(over, 0)) * area
        cut = cut | _boxes(_within(region, wanted, place[:, part]), cells)
    return cut


def spread(cut: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bring bool cells [N, S, S] to pixels [N, H, W]."""
    return interpolate(cut.unsqueeze(1).float(), size=shape, mode="nearest").squeeze(1) > 0.5


def _regions(draws: Draws, cells: int) -> Tensor:
    """Boxes [N, 9, 4] as whole cells (top, left, height, width), the largest first."""
    part = torch.arange(9, device=draws.device)
    layout = torch.stack([part // 3, part % 3], dim=-1)
    centre = (layout + draws.uniform(0.25, 0.75, 9, 2)) / 3
    area, aspect = draws.uniform(*AREA, 9), draws.log_uniform(*ASPECT, 9)
    half = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], dim=-1) / 2
    low = ((centre - half).clamp(min=0) * cells).round()
    # The cell at the far end belongs to the region, as in the released code.
    high = ((centre + half).clamp(max=1) * cells).round().clamp(max=cells - 1)
    boxes = torch.cat([low, high - low + 1], dim=-1)
    order = boxes[..., 2:].prod(dim=-1).argsort(dim=1, descending=True, stable=True)
    return boxes.gather(1, order.unsqueeze(-1).expand_as(boxes))


def _within(region: Tensor, area: Tensor, place: Tensor) -> Tensor:
    """Box [N, 4] of about ``area`` cells [N] in ``region`` [N, 4], at ``place`` [N, 2] of 0-1."""
    corner, sides = region[:, :2], region[:, 2:]
    inner = sides * (area / sides.prod(dim=1)).clamp(min=0).sqrt().unsqueeze(1)
    start = place * (sides - inner)
    # Both ends are rounded, not the size: on average no area is lost.
    low, high = start.round(), (start + inner).round()
    return torch.cat([corner + low, high - low], dim=1)


def _boxes(box: Tensor, cells: int) -> Tensor:
    """Cells [N, S, S] inside of ``box`` [N, 4]."""
    index = torch.arange(cells, device=box.device)
    low, high = box[:, :2, None], box[:, :2, None] + box[:, 2:, None]
    rows, columns = ((index >= low) & (index < high)).unbind(dim=1)
    return rows.unsqueeze(2) & columns.unsqueeze(1)
