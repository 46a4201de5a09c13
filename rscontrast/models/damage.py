"""Two dates, one encoder, one map: the Siamese segmenter, and what every model of pairs offers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rscontrast.errors import CheckpointError, InputError, choose, positive, whole
from rscontrast.models.decoders import DECODERS, build, misfit
from rscontrast.models.fusion import FUSION, FUSIONS
from rscontrast.models.probabilities import log_probabilities, require_heads
from rscontrast.types import STRIDE


class PairSegmenter(nn.Module, ABC):
    """Classify each pixel from an image before and one after; any size, calibrated probabilities.

    A derived class says how in :meth:`classify`.
    """

    encoder: nn.Module
    """What a pretrained encoder starts."""
    least: int = STRIDE
    """Smallest side that :meth:`classify` takes, pixels; sides are multiples of 32."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Keep what it was built with.

        Args:
            arguments: of :func:`rscontrast.models.create_segmenter`; a checkpoint holds them.

        Raises:
            InputError: unknown heads, too few classes or no band.
        """
        super().__init__()
        self.arguments = dict(arguments)
        self.heads: str = self.arguments["heads"]
        require_heads(self.heads, self.arguments["classes"])
        whole("in_channels", self.arguments["in_channels"])
        self._temperature = 1.0

    @property
    def temperature(self) -> float:
        """What logits are divided by: 1, or what calibration has found."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not math.isfinite(positive("temperature", value)):
            raise InputError("temperature", value, "a finite number above 0")
        self._temperature = float(value)

    @abstractmethod
    def classify(self, pair: Tensor) -> Tensor:
        """Logits of a pair whose sides are multiples of 32, at least ``least``."""

    def forward(self, pair: Tensor) -> Tensor:
        """Classify.

        Args:
            pair: normalised reflectance [B, 2, C, H, W], before and after. Sides that are no
                multiple of 32, or too short, are continued at the bottom and at the right by
                their mirror image (by their last pixel where they are shorter than what is
                missing), and the logits are cropped.

        Returns:
            logits [B, classes, H, W]; what they mean depends on ``heads``, see
            :mod:`rscontrast.models.probabilities`.
        """
        height, width = pair.shape[-2:]
        return self.classify(_pad(pair, self.least))[..., :height, :width]

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Log of :meth:`probabilities`."""
        return log_probabilities(logits, self.heads, self.temperature)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities [B, K, H, W] of logits, calibrated by ``temperature``."""
        return self.log_probabilities(logits).exp()

    def start_from(self, encoder: nn.Module) -> None:
        """Take the weights of an encoder of the same name and bands.

        Stages that this model's decoder does without, and has not built, are left out.

        Raises:
            CheckpointError: weights are missing, or of another shape.
        """
        own = self.encoder.state_dict()
        weights = {key: value for key, value in encoder.state_dict().items() if key in own}
        try:
            self.encoder.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"encoder: weights do not fit the model ({error})") from error

    def freeze_encoder(self, frozen: bool = True) -> None:
        """Train the encoder, or do not; parameters that no logit depends on stay frozen."""
        self.encoder.requires_grad_(not frozen)
        self._freeze_idle()

    def _find_idle(self) -> None:
        """Try the model on an empty pair; freeze what no logit depends on.

        Such parameters never get a gradient (stages that a decoder does not read, a transformer's
        last norm), for which distributed training would wait for ever.
        """
        mode = self.training
        parameters = dict(self.named_parameters())
        some = next(iter(parameters.values()))
        channels = self.arguments["in_channels"]
        pair = torch.zeros(1, 2, channels, self.least, self.least, device=some.device)
        with torch.enable_grad():
            logits = self.eval().classify(pair)
            grads = torch.autograd.grad(logits.sum(), list(parameters.values()), allow_unused=True)
        want = (1, self.arguments["classes"], self.least, self.least)
        if logits.shape != want:
            raise RuntimeError(f"logits of shape {tuple(logits.shape)}, not {want}")
        found = zip(parameters, grads, strict=True)
        self.idle = frozenset(name for name, grad in found if grad is None)
        self.train(mode)
        self._freeze_idle()

    def _freeze_idle(self) -> None:
        for name, parameter in self.named_parameters():
            if name in self.idle:
                parameter.requires_grad_(False)


class SiameseSegmenter(PairSegmenter):
    """One encoder sees both dates; at each of its scales the two maps are fused to one.

    Any decoder made for one image then decodes the pair.
    """

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
            encoder: see :func:`rscontrast.models.create_encoder`.
            decoder: a name in :data:`rscontrast.models.decoders.DECODERS`.
            in_channels: bands of one date.
            classes: number of classes, 2 or more, background included.
            fusion: a name in :data:`rscontrast.models.fusion.FUSIONS`.
            heads: "one" over all classes, or "two": whether there is a building, and its grade.

        Raises:
            InputError: an unknown name, too few classes, or an encoder that does not fit the
                decoder.
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
        kind = FUSIONS[choose("fusion", fusion, FUSIONS)]
        # The decoder makes the encoder: some ask it for other strides than the default.
        single = build(encoder, decoder, in_channels, classes)
        self.encoder = single.encoder
        self.decoder: nn.Module = single.decoder
        self.segmentation_head: nn.Module = single.segmentation_head
        self.least, self.dates = DECODERS[decoder].least, kind.dates
        widths: Any = self.encoder.out_channels
        reads = [level for level in DECODERS[decoder].reads if widths[level]]
        self.fuse = nn.ModuleDict({str(level): kind(widths[level]) for level in reads})
        try:
            self._find_idle()
        except (RuntimeError, AssertionError) as error:
            raise misfit(encoder, decoder, error) from error

    def classify(self, pair: Tensor) -> Tensor:
        """Logits of a pair whose sides are multiples of 32, at least ``least``."""
        features = self.encoder(pair[:, -self.dates :].flatten(0, 1))
        if isinstance(features, tuple):  # a transformer's maps and its class tokens
            features = features[0]
        # Not -1: a map without channels has no size to divide.
        dates = [torch.unflatten(level, 0, (pair.shape[0], self.dates)) for level in features]
        fused = [
            self.fuse[str(level)](maps) if str(level) in self.fuse else maps[:, -1]
            for level, maps in enumerate(dates)
        ]
        decoded = self._decode(fused)
        logits: Tensor = self.segmentation_head(decoded)
        return logits

    def _decode(self, features: list[Tensor]) -> Tensor:
        # A transformer's decoder asks for class tokens too, which it is told to ignore.
        tokens = ([None] * len(features),) if self.arguments["decoder"] == "dpt" else ()
        decoded: Tensor = self.decoder(features, *tokens)
        return decoded


def _pad(pair: Tensor, least: int) -> Tensor:
    """Continue an image to sides that a segmenter takes; as it is where they are."""
    height, width = pair.shape[-2:]
    down = max(-height % STRIDE, least - height)
    right = max(-width % STRIDE, least - width)
    for missing, side, shape in ((down, height, (0, 0, 0, down)), (right, width, (0, right, 0, 0))):
        if missing:
            mode = "reflect" if missing < side else "replicate"
            pair = torch.unflatten(F.pad(pair.flatten(0, 1), shape, mode=mode), 0, pair.shape[:2])
    return pair
