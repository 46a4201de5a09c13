"""Decoders of segmentation_models_pytorch by name: a new one is one line here."""

from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp

from rscontrast.errors import InputError, choose
from rscontrast.models.encoder import is_vit, require_encoder, timm_options
from rscontrast.types import STRIDE


@dataclass(frozen=True)
class Decoder:
    """One architecture: how it is made and what it asks of the encoder."""

    make: type
    """Class of SMP; it splits into ``encoder``, ``decoder(features)``, ``segmentation_head``."""
    reads: tuple[int, ...]
    """The encoder's feature maps that it reads, 0 being the image itself."""
    needs: str
    """Which encoders fit."""
    least: int = STRIDE
    """Smallest side of an image, pixels, a multiple of 32."""


_ANY = "any of SMP, or a 'tu-' one with feature pyramids, such as resnet18"
_NO_MIT = "one with features at half of the image's size, such as resnet18, not mit_b*"
_DILATED = "one that can be dilated, such as resnet18, mobilenet_v2 or tu-resnet18"
_VIT = "a vision transformer of timm with patches of 8 or 16, such as tu-vit_tiny_patch16_224"

DECODERS: dict[str, Decoder] = {
    "unet": Decoder(smp.Unet, (1, 2, 3, 4, 5), _ANY),
    "unetplusplus": Decoder(smp.UnetPlusPlus, (1, 2, 3, 4, 5), _NO_MIT),
    "manet": Decoder(smp.MAnet, (1, 2, 3, 4, 5), _ANY),
    "linknet": Decoder(smp.Linknet, (1, 2, 3, 4, 5), _NO_MIT),
    "fpn": Decoder(smp.FPN, (2, 3, 4, 5), _ANY),
    # Its encoder ends at an eighth of the image's size.
    "pspnet": Decoder(smp.PSPNet, (3,), _ANY),
    # It halves a map of a sixteenth three times.
    "pan": Decoder(smp.PAN, (2, 3, 4, 5), _DILATED, least=128),
    "deeplabv3": Decoder(smp.DeepLabV3, (5,), _DILATED),
    "deeplabv3plus": Decoder(smp.DeepLabV3Plus, (2, 5), _DILATED),
    "upernet": Decoder(smp.UPerNet, (2, 3, 4, 5), _ANY),
    # Encoders that begin at a quarter have nothing at level 1, and it is not read.
    "segformer": Decoder(smp.Segformer, (1, 2, 3, 4, 5), _ANY),
    "dpt": Decoder(smp.DPT, (0, 1, 2, 3), _VIT),
}
"""Name -> architecture."""


def build(encoder: str, decoder: str, in_channels: int, classes: int) -> Any:
    """Make a segmenter of one image with random weights: a model of SMP.

    Args:
        encoder: see :func:`rscontrast.models.create_encoder`.
        decoder: a name in :data:`DECODERS`.
        in_channels: bands of the image.
        classes: channels of the output.

    Raises:
        InputError: an unknown name, or an encoder that does not fit the decoder.
    """
    kind = DECODERS[choose("decoder", decoder, DECODERS)]
    require_encoder(encoder)
    options: dict[str, Any] = timm_options(encoder)
    if is_vit(encoder) != (decoder == "dpt"):
        raise InputError("encoder", encoder, _allowed(decoder))
    if decoder == "dpt":
        # The class token stays in the encoder: see VitEncoder.
        options["decoder_readout"] = "ignore"
    try:
        return kind.make(
            encoder_name=encoder,
            encoder_weights=None,
            in_channels=in_channels,
            classes=classes,
            **options,
        )
    # What SMP and timm raise where an encoder lacks something differs from family to family.
    except (RuntimeError, KeyError, ValueError, TypeError, AssertionError) as error:
        raise misfit(encoder, decoder, error) from error


def misfit(encoder: str, decoder: str, cause: object) -> InputError:
    """What to say of an encoder that does not fit a decoder."""
    return InputError("encoder", encoder, f"{_allowed(decoder)} ({cause or 'it does not fit'})")


def _allowed(decoder: str) -> str:
    return f"for {decoder}, {DECODERS[decoder].needs}"
