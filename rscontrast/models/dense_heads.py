"""Heads on feature maps, one for each of an encoder's coarsest levels."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from rscontrast.errors import InputError, whole


class PerLevel(nn.Module):
    """A module for each level of a feature pyramid, the finest first."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        """Keep the modules."""
        super().__init__()
        self.levels = nn.ModuleList(modules)

    def forward(self, maps: Sequence[Tensor], *more: Sequence[Any]) -> list[Tensor]:
        """Each module on its level's map, and on its part of each list in ``more``."""
        return [level(*given) for level, *given in zip(self.levels, maps, *more, strict=True)]


def dense_projection_head(
    in_features: int, hidden: int, out_features: int, *, batch_norm: bool = True
) -> nn.Sequential:
    """Two 1 x 1 convolutions with a ReLU between: [N, D, h, w] -> [N, out, h, w].

    Args:
        in_features: D.
        hidden: width between the convolutions.
        out_features: size of what comes out.
        batch_norm: one before the ReLU, as in PixPro (arXiv 2011.10043); without it it is the
            dense head of DenseCL (arXiv 2011.09157).
    """
    norm = [nn.BatchNorm2d(hidden)] if batch_norm else []
    return nn.Sequential(
        nn.Conv2d(in_features, whole("hidden_dim", hidden), kernel_size=1),
        *norm,
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, whole("output_dim", out_features), kernel_size=1),
    )


def level_channels(encoder: nn.Module, levels: int) -> list[int]:
    """Channels of the encoder's ``levels`` coarsest maps, the finest of them first.

    Raises:
        InputError: it has fewer maps than that.
    """
    listed: Any = encoder.out_channels  # a list of int, which nn.Module cannot declare
    # The first is the image itself; SMP has maps of no channel where an encoder skips a stride.
    usable = [int(count) for count in listed[1:]]
    chosen = usable[-whole("levels", levels) :]
    if levels > len(usable) or 0 in chosen:
        raise InputError("levels", levels, f"as many as the encoder has maps, {usable}")
    return chosen
