"""Decoders of segmentation_models_pytorch by name: a new one is one line here."""

import segmentation_models_pytorch as smp

DECODERS: dict[str, type] = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "fpn": smp.FPN,
    "manet": smp.MAnet,
    "linknet": smp.Linknet,
    "pan": smp.PAN,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
}
"""Name -> class; each splits into ``encoder``, ``decoder(features)`` and ``segmentation_head``."""
