"""The plainest decoder: what of the classes stands in the features as they are."""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FROM = 2
"""First level that is read; its side is a quarter of the image's."""


class Stack(nn.Module):
    """The maps of levels 2 on, brought to the size of level 2, as channels of one map."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """[B, C_k, H_k, W_k] of each level to [B, sum C_k, H_2, W_2]."""
        maps = [level for level in features[FROM:] if level.shape[1]]
        size = maps[0].shape[-2:]
        return torch.cat(
            [F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps], dim=1
        )


class Linear(nn.Module):
    """An encoder of SMP with a linear layer on it, cut into the same three parts as their models.

    With a frozen encoder and the fusion "concat", itself linear, this is the linear probe of a
    segmenter: logits are a linear function of the features of the two dates.
    """

    def __init__(
        self,
        encoder_name: str,
        encoder_weights: str | None,
        in_channels: int,
        classes: int,
        **options: Any,
    ) -> None:
        """Take what the models of SMP take."""
        super().__init__()
        self.encoder: nn.Module = smp.encoders.get_encoder(
            encoder_name, in_channels=in_channels, weights=encoder_weights, **options
        )
        widths: Any = self.encoder.out_channels
        self.decoder = Stack()
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(sum(widths[FROM:]), classes, kernel_size=1),
            nn.Upsample(scale_factor=2**FROM, mode="bilinear", align_corners=False),
        )
