"""Two dates, one encoder, one map: the Siamese segmenter."""

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError, choose
from rscontrast.models.decoders import DECODERS
from rscontrast.models.encoder import require_encoder


class SiameseSegmenter(nn.Module):
    """Classify each pixel from an image before and one after.

    One encoder sees both dates. At each of its scales the two feature maps and the size of their
    difference are fused by a 1 x 1 convolution to the width of one, so that any decoder made for
    one image decodes the pair: its features say both what is there and what changed.
    """

    def __init__(self, encoder: str, decoder: str, in_channels: int, classes: int) -> None:
        """Build with random weights.

        Args:
            encoder: see :func:`rscontrast.models.create_encoder`.
            decoder: a name in :data:`rscontrast.models.decoders.DECODERS`.
            in_channels: bands of one date.
            classes: number of classes, 2 or more, background included.

        Raises:
            InputError: an unknown name or too few classes.
        """
        super().__init__()
        if classes < 2:
            raise InputError("classes", classes, "2 or more, background included")
        require_encoder(encoder)
        make = DECODERS[choose("decoder", decoder, DECODERS)]
        # The decoder makes the encoder: some ask it for other strides than the default.
        whole = make(
            encoder_name=encoder, encoder_weights=None, in_channels=in_channels, classes=classes
        )
        self.encoder = whole.encoder
        self.decoder, self.segmentation_head = whole.decoder, whole.segmentation_head
        self.fuse = nn.ModuleList(
            nn.Conv2d(3 * width, width, kernel_size=1) if width else nn.Identity()
            for width in self.encoder.out_channels
        )

    def forward(self, pair: Tensor) -> Tensor:
        """Classify.

        Args:
            pair: normalised reflectance [B, 2, C, H, W], before and after; H and W are multiples
                of the encoder's stride (32 by default).

        Returns:
            logits [B, classes, H, W].
        """
        features = self.encoder(pair.flatten(0, 1))
        fused = [_fuse(level, conv) for level, conv in zip(features, self.fuse, strict=True)]
        logits: Tensor = self.segmentation_head(self.decoder(fused))
        return logits


def _fuse(features: Tensor, conv: nn.Module) -> Tensor:
    pre, post = torch.unflatten(features, 0, (-1, 2)).unbind(1)
    if pre.shape[1] == 0:
        return pre
    fused: Tensor = conv(torch.cat([pre, post, (post - pre).abs()], dim=1))
    return fused
