"""Convolutions of eight bits, for CPUs: weights and what flows in are rounded to 256 steps.

y = s_w s_x sum (w_q - 0)(x_q - z_x) + b: weights by channel and symmetric, inputs and outputs by
layer over the range that they were seen to have. The ranges are found on images made by seed, of
mean 0 and deviation 1 as normalised reflectance has, so that a checkpoint always makes the same
model; no imagery is needed. Source: Jacob et al. 2018 (arXiv 1712.05877), section 2; the images
are a reconstruction.
"""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rscontrast.errors import InputError

INPUTS, OUTPUTS = 127, 255
"""Steps; of inputs a bit less than there is, since sums of two products overflow on older CPUs."""

type Range = tuple[float, float]
"""Least and largest value."""


class EightBitConv(nn.Module):
    """A convolution that rounds what it gets and gives back floats."""

    def __init__(self, conv: nn.Conv2d, inputs: Range, outputs: Range) -> None:
        """Take a convolution, and the ranges of what it gets and what it gives."""
        super().__init__()
        self.inputs, self.outputs = _steps(*inputs, INPUTS), _steps(*outputs, OUTPUTS)
        weight = conv.weight.detach()
        scales = weight.abs().amax(dim=(1, 2, 3)).clamp_(min=1e-12).double() / 127
        zeros = torch.zeros_like(scales, dtype=torch.int64)
        with warnings.catch_warnings():  # of a future torch without them
            warnings.simplefilter("ignore", UserWarning)
            rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.conv2d_prepack(
            rounded, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )

    def forward(self, images: Tensor) -> Tensor:
        """Convolve."""
        rounded = torch.quantize_per_tensor(images.float(), *self.inputs, torch.quint8)
        found: Tensor = torch.ops.quantized.conv2d(rounded, self.packed, *self.outputs)
        return found.dequantize()


def quantised(module: nn.Module, bands: int, size: int) -> nn.Module:
    """Replace the convolutions of a segmenter of pairs.

    Args:
        module: on the CPU, in evaluation mode; it stays as it is.
        bands: of one date.
        size: side of the images that ranges are found on, pixels.

    Raises:
        InputError: there is no convolution that torch has in eight bits, or none here.
    """
    module = copy.deepcopy(module)
    convs = {n: m for n, m in module.named_modules() if type(m) is nn.Conv2d and _fits(m)}
    if not convs or "none" in torch.backends.quantized.engine:
        raise InputError("precision", "int8", "fp32 or bf16: no convolution of eight bits here")
    ranges = _ranges(module, convs, bands, size)
    for name, conv in convs.items():
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, EightBitConv(conv, *ranges[name]))
    return module


def _fits(conv: nn.Conv2d) -> bool:
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


@torch.inference_mode()
def _ranges(
    module: nn.Module, convs: dict[str, nn.Conv2d], bands: int, size: int
) -> dict[str, tuple[Range, Range]]:
    found: dict[str, Any] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[name] = tuple((float(t.min()), float(t.max())) for t in (inputs[0], output))

        return hook

    hooks = [conv.register_forward_hook(note(name)) for name, conv in convs.items()]
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 2 * bands, size // 16, size // 16, generator=random)
    smooth = F.interpolate(coarse, size=(size, size), mode="bilinear")
    images = smooth + torch.randn(2, 2 * bands, size, size, generator=random) / 2
    module(torch.unflatten(images, 1, (2, bands)))
    for hook in hooks:
        hook.remove()
    return {name: found[name] for name in convs if name in found}


def _steps(least: float, most: float, count: int) -> tuple[float, int]:
    """Size of a step, and the step that is 0."""
    least, most = min(least, 0.0), max(most, 0.0)
    scale = max((most - least) / count, 1e-12)
    return scale, round(-least / scale)
