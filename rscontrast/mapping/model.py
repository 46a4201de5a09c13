"""A checkpoint as a run uses it: patches of normalised reflectance in, fields out."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rscontrast.errors import GridError, InputError, whole
from rscontrast.io.grid import ground_res
from rscontrast.mapping.blend import Window
from rscontrast.mapping.job import Job, Settings
from rscontrast.models.checkpoint import checkpoint_kind, load_encoder, load_segmenter
from rscontrast.models.damage import PairSegmenter
from rscontrast.models.device import torch_device
from rscontrast.models.static import quantised
from rscontrast.types import RES_TOLERANCE, STRIDE, SensorContract

TURNS = tuple((turns, flip) for flip in (False, True) for turns in range(4))
"""The eight ways to lay a square down."""


@dataclass(frozen=True)
class Model:
    """What maps the patches of a run, and where its patches lie."""

    module: nn.Module
    """In evaluation mode, on the device."""
    contract: SensorContract
    """What it was trained on."""
    class_names: tuple[str, ...]
    """Of a segmenter; an encoder has none."""
    window: Window
    """Of its patches, in cells."""
    cell: int
    """Pixels along a side of what it says one thing of: 1, or the stride of an encoder."""
    channels: int
    """Of what it says: classes, or the width of an embedding."""
    device: torch.device
    """Where it computes."""
    half: bool = False
    """Whether it computes in bfloat16."""
    tta: bool = False
    """Whether the eight turns of a patch are averaged."""

    @property
    def dates(self) -> int:
        """Dates that it reads: both, or the one after."""
        return 2 if self.class_names else 1

    @property
    def size(self) -> int:
        """Side of a patch, pixels."""
        return self.window.size * self.cell

    def require(self, job: Job) -> None:
        """Refuse a grid whose pixels are not of the size that the model learned from.

        Raises:
            GridError: names both sizes.
        """
        there, learned = ground_res(job.geobox), self.contract.res
        if not 1 / RES_TOLERANCE <= there / learned <= RES_TOLERANCE:
            sizes = f"pixels of {there:.3g} m, the model learned from {learned:.3g} m"
            raise GridError(f"job {job.id}: {sizes}; fine-tune on this imagery")

    def infer(self, patches: Tensor) -> Tensor:
        """What the model says of patches.

        Args:
            patches: [B, dates, C, size, size], normalised, 0 where unusable.

        Returns:
            [B, channels, size / cell, size / cell] in float32: class probabilities, or features.
        """
        if not self.tta:
            return self._infer(patches)
        total = None
        for turn in TURNS:
            found = unturned(self._infer(turned(patches, *turn)), *turn)
            total = found.clone() if total is None else total.add_(found)
        return total.div_(len(TURNS))  # type: ignore[union-attr]  # there are eight

    def _infer(self, patches: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            said = self.module(patches if self.class_names else patches[:, -1])
        if isinstance(self.module, PairSegmenter):
            return self.module.probabilities(said)
        features: Tensor = said[-1]
        return features.float()


def turned(patches: Tensor, turns: int, flip: bool) -> Tensor:
    """Lay squares [..., S, S] down in one of the eight ways."""
    return torch.rot90(patches.flip(-1) if flip else patches, turns, (-2, -1))


def unturned(patches: Tensor, turns: int, flip: bool) -> Tensor:
    """Inverse of :func:`turned`."""
    back = torch.rot90(patches, -turns, (-2, -1))
    return back.flip(-1) if flip else back


def load(settings: Settings) -> Model:
    """Read the model of a run; once a process.

    Raises:
        CheckpointError: neither a segmenter nor an encoder of ours.
        InputError: a size that the model does not take; a precision that the device does not.
    """
    whole("patch_size", settings.patch_size, multiple=STRIDE)
    device = torch_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    module, contract, names = _read(settings.checkpoint)
    module = module.to(device).eval().requires_grad_(False)
    if settings.precision == "int8":
        module = _int8(module, settings, contract, device)
    cell, channels = (1, len(names)) if names else _stride(module, contract, settings, device)
    for name, value in (("patch_size", settings.patch_size), ("overlap", settings.overlap)):
        if value % cell:
            raise InputError(name, value, f"a multiple of {cell}, the encoder's stride")
    window = Window(settings.patch_size // cell, settings.overlap // cell, settings.window)
    half = settings.precision == "bf16"
    return Model(module, contract, names, window, cell, channels, device, half, settings.tta)


def _read(checkpoint: str) -> tuple[nn.Module, SensorContract, tuple[str, ...]]:
    if checkpoint_kind(checkpoint) == "encoder":
        encoder = load_encoder(checkpoint)
        return encoder.module, encoder.contract, ()
    segmenter = load_segmenter(checkpoint)
    return segmenter.module, segmenter.contract, segmenter.class_names


@torch.inference_mode()
def _stride(
    encoder: nn.Module, contract: SensorContract, settings: Settings, device: torch.device
) -> tuple[int, int]:
    """Pixels along a side of a cell of the coarsest map, and its channels."""
    size = settings.patch_size
    features = encoder(torch.zeros(1, len(contract.bands), size, size, device=device))[-1]
    side = features.shape[-1]
    if size % side:
        raise InputError("patch_size", size, f"a multiple of the encoder's {side} cells")
    return size // side, features.shape[1]


def _int8(
    module: nn.Module, settings: Settings, contract: SensorContract, device: torch.device
) -> nn.Module:
    if device.type != "cpu" or not isinstance(module, PairSegmenter):
        what = "an encoder" if device.type == "cpu" else "a GPU"
        raise InputError("precision", "int8", f"fp32 or bf16 for {what}; int8 for maps on a CPU")
    return quantised(module, len(contract.bands), settings.patch_size)
