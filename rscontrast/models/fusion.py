"""Fusion of two dates by name: one feature map of each becomes one map, of the same width.

The shape of one date is kept, so that any decoder that was made for one image decodes the pair.
"""

import math

import torch
from torch import Tensor, nn


class Fusion(nn.Module):
    """[B, T, C, h, w] -> [B, C, h, w]."""

    dates = 2
    """T: how many dates it reads, the last one being the date after the event."""

    def __init__(self, width: int) -> None:
        """Take the number of channels of one date, C."""
        super().__init__()
        self.width = width


class Concat(Fusion):
    """W [pre; post] + b, W [C, 2C] at each cell.

    Source: FC-Siam-conc (Daudt et al. 2018, arXiv 1810.08462), which gives both maps to the
    decoder; the 1 x 1 convolution to the width of one is ours.
    """

    def __init__(self, width: int) -> None:
        """Take C."""
        super().__init__(width)
        self.conv = nn.Conv2d(2 * width, width, kernel_size=1)

    def forward(self, dates: Tensor) -> Tensor:
        """Fuse."""
        fused: Tensor = self.conv(dates.flatten(1, 2))
        return fused


class Difference(Fusion):
    """W |post - pre| + b, W [C, C] at each cell: what did not change looks all alike.

    It says the same of a pair in either order. Source: FC-Siam-diff (Daudt et al. 2018, arXiv
    1810.08462), the absolute difference of the maps; the convolution is ours.
    """

    def __init__(self, width: int) -> None:
        """Take C."""
        super().__init__(width)
        self.conv = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, dates: Tensor) -> Tensor:
        """Fuse."""
        fused: Tensor = self.conv(difference(dates))
        return fused


class ConcatDifference(Fusion):
    """W [pre; post; |post - pre|] + b, W [C, 3C] at each cell: what is there and what changed.

    Source: both of the above together; a reconstruction.
    """

    def __init__(self, width: int) -> None:
        """Take C."""
        super().__init__(width)
        self.conv = nn.Conv2d(3 * width, width, kernel_size=1)

    def forward(self, dates: Tensor) -> Tensor:
        """Fuse."""
        fused: Tensor = self.conv(torch.cat([dates.flatten(1, 2), difference(dates)], dim=1))
        return fused


class Attention(Fusion):
    """post + W_o sum_t softmax_t(q . k_t / sqrt(d)) v_t + b_o: the date after asks both dates.

    At each cell q = W_q post + b_q, k_t = W_k f_t and v_t = W_v f_t + b_v, in as many heads as
    divide C, at most 8, each of d channels. Where the dates agree both weigh the same; where they
    do not, the weights tell. The keys have no bias: the softmax over the dates would
    not feel it.

    Source: scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762, equation 1) over
    the dates of one cell, as of one pixel's series in L-TAE (Garnot and Landrieu 2020, arXiv
    2007.00586); for two dates, with the residual, a reconstruction.
    """

    def __init__(self, width: int) -> None:
        """Take C."""
        super().__init__(width)
        self.heads = math.gcd(width, 8)
        self.query = nn.Conv2d(width, width, kernel_size=1)
        self.key = nn.Conv2d(width, width, kernel_size=1, bias=False)
        self.value = nn.Conv2d(width, width, kernel_size=1)
        self.out = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, dates: Tensor) -> Tensor:
        """Fuse."""
        post, both = dates[:, 1], dates.flatten(0, 1)
        query = self._heads(self.query(post)).unsqueeze(1)
        keys, values = (
            torch.unflatten(self._heads(part(both)), 0, (-1, 2)) for part in (self.key, self.value)
        )
        scores = (query * keys).sum(dim=3, keepdim=True) / math.sqrt(self.width // self.heads)
        mixed = (scores.softmax(dim=1) * values).sum(dim=1)
        fused: Tensor = post + self.out(mixed.flatten(1, 2))
        return fused

    def _heads(self, maps: Tensor) -> Tensor:
        return torch.unflatten(maps, 1, (self.heads, self.width // self.heads))


class Post(Fusion):
    """The map after the event, as it is: what one date alone can say.

    The encoder does not see the date before.
    """

    dates = 1

    def forward(self, dates: Tensor) -> Tensor:
        """Fuse."""
        return dates[:, -1]


FUSIONS: dict[str, type[Fusion]] = {
    "concat": Concat,
    "difference": Difference,
    "concat_difference": ConcatDifference,
    "attention": Attention,
    "post": Post,
}
"""Name -> class; a new one is one line here."""

FUSION = "concat_difference"
"""The fusion of segmenters that name none."""


def difference(dates: Tensor) -> Tensor:
    """|post - pre|: [B, 2, C, h, w] -> [B, C, h, w]."""
    return (dates[:, 1] - dates[:, 0]).abs()
