"""Encoders by name, with any number of bands, in the shape that every SMP decoder takes."""

from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from rscontrast.errors import InputError, choose


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
    try:
        encoder: nn.Module = smp.encoders.get_encoder(name, in_channels=in_channels, weights=None)
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


def embed(encoder: nn.Module, images: Tensor) -> Tensor:
    """Mean of the coarsest feature map: [B, C, H, W] -> [B, D]."""
    features: list[Tensor] = encoder(images)
    return torch.mean(features[-1], dim=(2, 3))


def embedding_size(encoder: nn.Module) -> int:
    """D of :func:`embed`."""
    channels: Any = encoder.out_channels  # a list of int, which nn.Module cannot declare
    return int(channels[-1])
