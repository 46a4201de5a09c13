"""Segmenters of pairs by name."""

import torch

from rscontrast.errors import choose
from rscontrast.models.damage import PairSegmenter, SiameseSegmenter
from rscontrast.models.decoders import DECODERS
from rscontrast.models.external import EXTERNALS, ExternalSegmenter
from rscontrast.models.fusion import FUSION


def create_segmenter(
    encoder: str,
    decoder: str,
    in_channels: int,
    classes: int,
    fusion: str = FUSION,
    heads: str = "one",
) -> PairSegmenter:
    """Make a segmenter of pairs with random weights.

    Args:
        encoder: see :func:`rscontrast.models.create_encoder`, or as the model of TorchGeo calls it.
        decoder: a name in :data:`rscontrast.models.decoders.DECODERS`, or a whole model of
            TorchGeo, in :data:`rscontrast.models.external.EXTERNALS`.
        in_channels: bands of one date.
        classes: number of classes, 2 or more, background included.
        fusion: a name in :data:`rscontrast.models.fusion.FUSIONS`; models of TorchGeo have theirs.
        heads: "one" over all classes, or "two": whether there is a building, and its grade.

    Raises:
        InputError: an unknown name, too few classes, or an encoder that does not fit.
    """
    choose("decoder", decoder, [*DECODERS, *EXTERNALS])
    kind = ExternalSegmenter if decoder in EXTERNALS else SiameseSegmenter
    # A model is tried, with gradients, as it is built: also where one is only read for inference.
    with torch.inference_mode(False):
        return kind(encoder, decoder, in_channels, classes, fusion, heads)
