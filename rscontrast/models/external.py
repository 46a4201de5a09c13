"""TorchGeo's change models by name, as segmenters of pairs: a new one is one line here.

They fuse the dates in their own way and come with an encoder of their own making. Source: the
classes of :mod:`torchgeo.models`, whose docstrings name the papers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchgeo.models
from torch import Tensor, nn

from rscontrast.errors import InputError, choose
from rscontrast.models.damage import PairSegmenter
from rscontrast.models.fusion import FUSION


@dataclass(frozen=True)
class External:
    """One model of TorchGeo."""

    make: Callable[[str, int, int], nn.Module]
    """(encoder, in_channels, classes) -> model."""
    classify: Callable[[nn.Module, Tensor], Tensor]
    """(model, pair [B, 2, C, H, W]) -> logits [B, K, H, W]."""
    needs: str
    """Which encoders fit."""
    encoder: str = "encoder"
    """Where its encoder is."""
    bands: int | None = None
    """How many bands it takes, where that is fixed."""
    classes: int | None = None
    """How many classes it tells, where that is fixed."""


def _whole(model: nn.Module, pair: Tensor) -> Tensor:
    logits: Tensor = model(pair)
    return logits


def _stacked(model: nn.Module, pair: Tensor) -> Tensor:
    logits: Tensor = model(pair.flatten(1, 2))
    return logits


def _mixin(model: nn.Module, pair: Tensor) -> Tensor:
    """Two logits whose softmax is the sigmoid of ChangeMixin's one, for change from pre to post."""
    maps = model.get_submodule("dense_feature_extractor")(pair.flatten(0, 1))
    change = model.get_submodule("changemixin")(maps.unflatten(0, pair.shape[:2]))[0]
    return torch.cat([torch.zeros_like(change), change], dim=1)


_SMP = "an encoder of SMP, or a 'tu-' one with feature pyramids, such as resnet18"

EXTERNALS: dict[str, External] = {
    "fcsiamconc": External(
        lambda encoder, bands, classes: torchgeo.models.FCSiamConc(
            encoder, encoder_weights=None, in_channels=bands, classes=classes
        ),
        _whole,
        _SMP,
    ),
    "fcsiamdiff": External(
        lambda encoder, bands, classes: torchgeo.models.FCSiamDiff(
            encoder, encoder_weights=None, in_channels=bands, classes=classes
        ),
        _whole,
        _SMP,
    ),
    "changevit": External(
        lambda encoder, bands, classes: torchgeo.models.ChangeViT(
            encoder.removeprefix("tu-"), in_channels=bands, num_classes=classes
        ),
        _whole,
        "a vision transformer of timm with patches of 8 or 16, such as tu-vit_tiny_patch16_224",
    ),
    "changestar": External(
        lambda encoder, bands, classes: torchgeo.models.ChangeStarFarSeg(encoder, classes),
        _mixin,
        "resnet18, resnet34, resnet50 or resnet101",
        encoder="dense_feature_extractor.backbone",
        bands=3,
        classes=2,
    ),
    # It scales its input as ImageNet's pictures are scaled, whatever came in.
    "btc": External(
        lambda encoder, bands, classes: torchgeo.models.BTC(encoder, classes=classes),
        _stacked,
        "swin_tiny, swin_small or swin_base",
        bands=3,
    ),
}
"""Name -> model; they stand beside :data:`rscontrast.models.decoders.DECODERS`."""


class ExternalSegmenter(PairSegmenter):
    """A change model of TorchGeo as a segmenter of pairs."""

    def __init__(
        self,
        encoder: str,
        decoder: str,
        in_channels: int,
        classes: int,
        fusion: str = FUSION,
        heads: str = "one",
    ) -> None:
        """Build with random weights.

        Args:
            encoder: as the model calls it; its ``needs`` in :data:`EXTERNALS` say which fit.
            decoder: a name in :data:`EXTERNALS`.
            in_channels: bands of one date.
            classes: number of classes, 2 or more, background included.
            fusion: the default: the model has its own.
            heads: "one" or "two".

        Raises:
            InputError: an unknown name, an encoder that does not fit, or a fixed number that
                differs.
        """
        super().__init__(
            {
                "encoder": encoder,
                "decoder": decoder,
                "in_channels": in_channels,
                "classes": classes,
                "fusion": fusion,
                "heads": heads,
            }
        )
        kind = EXTERNALS[choose("decoder", decoder, EXTERNALS)]
        if fusion != FUSION:
            raise InputError("fusion", fusion, f"the default: {decoder} has its own")
        if kind.bands not in (None, in_channels):
            raise InputError("in_channels", in_channels, f"{kind.bands} with {decoder}")
        if kind.classes not in (None, classes):
            raise InputError("classes", classes, f"{kind.classes} with {decoder}")
        self._kind = kind
        try:
            self.model = kind.make(encoder, in_channels, classes)
            self._find_idle()
        # What timm, SMP and TorchGeo raise of an unknown or unfit encoder differs.
        except (RuntimeError, KeyError, ValueError, TypeError, AssertionError) as error:
            raise InputError(
                "encoder", encoder, f"for {decoder}, {kind.needs} ({error})"
            ) from error

    # A property, not an attribute: a module that is held twice is saved twice.
    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """What a pretrained encoder starts."""
        return self.model.get_submodule(self._kind.encoder)

    def classify(self, pair: Tensor) -> Tensor:
        """Logits of a pair whose sides are multiples of 32."""
        return self._kind.classify(self.model, pair)
