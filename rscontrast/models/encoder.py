"""Encoders by name, with any number of bands, in the shape that every SMP decoder takes."""

from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from torch import Tensor, nn

from rscontrast.errors import InputError, choose

VITS = ("vision_transformer", "deit", "eva")
"""timm's families of plain vision transformers that take images of any size."""

SWINS = ("swin_transformer", "swin_transformer_v2", "swin_transformer_v2_cr")
"""timm's families of windowed transformers that take images of any size."""


class VitEncoder(TimmViTEncoder):
    """A plain vision transformer: four maps of its patches, all of one size.

    Its class token takes part in the attention and is then left out: of two dates there would be
    two, and the decoders here read maps.
    """

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of a batch: [B, C, H, W] -> four of [B, D, H / patch, W / patch]."""
        features: list[Tensor] = super().forward(images)[0]
        return features


def create_encoder(name: str, in_channels: int) -> nn.Module:
    """Make an encoder with random weights.

    Args:
        name: an encoder of segmentation_models_pytorch ("resnet18"), or "tu-" and a timm model.
        in_channels: number of bands, 1 or more.

    Returns:
        a module from [B, C, H, W] to its feature maps, the finest first; ``out_channels`` lists
        their channels.

    Raises:
        InputError: an unknown name (the nearest is suggested) or no band.
    """
    if in_channels < 1:
        raise InputError("in_channels", in_channels, "1 or more")
    require_encoder(name)
    options = timm_options(name)
    try:
        if is_vit(name):
            model = name.removeprefix("tu-")
            return VitEncoder(model, pretrained=False, in_channels=in_channels, **options)
        encoder: nn.Module = smp.encoders.get_encoder(
            name, in_channels=in_channels, weights=None, **options
        )
    except (RuntimeError, KeyError, ValueError) as error:
        allowed = f"an encoder of SMP, or 'tu-' and a timm model with feature maps ({error})"
        raise InputError("encoder", name, allowed) from error
    return encoder


def require_encoder(name: str) -> None:
    """Refuse a name that neither SMP nor timm knows.

    Raises:
        InputError: suggests the nearest name.
    """
    if name.startswith("tu-"):
        choose("encoder", name, (f"tu-{model}" for model in timm.list_models()))
    else:
        choose("encoder", name, smp.encoders.get_encoder_names())


def is_vit(name: str) -> bool:
    """Whether an encoder is a plain vision transformer, all of whose maps have one size."""
    return name.startswith("tu-") and timm.models.is_model_in_modules(name[3:], VITS)


def timm_options(name: str) -> dict[str, Any]:
    """What timm must be told so that an encoder takes images of any size."""
    if is_vit(name):
        # Without a class there is no head whose weights nothing would train.
        return {"dynamic_img_size": True, "num_classes": 0}
    if name.startswith("tu-") and timm.models.is_model_in_modules(name[3:], SWINS):
        return {"strict_img_size": False}
    return {}


def embed(encoder: nn.Module, images: Tensor) -> Tensor:
    """Mean of the coarsest feature map: [B, C, H, W] -> [B, D]."""
    features: list[Tensor] = encoder(images)
    return torch.mean(features[-1], dim=(2, 3))


def embedding_size(encoder: nn.Module) -> int:
    """D of :func:`embed`."""
    channels: Any = encoder.out_channels  # a list of int, which nn.Module cannot declare
    return int(channels[-1])
