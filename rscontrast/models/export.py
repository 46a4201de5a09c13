"""Segmenters for machines without this package: ONNX, or a program of ``torch.export``."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from rscontrast.atomic import atomic_path
from rscontrast.errors import InputError, choose, whole
from rscontrast.models.checkpoint import Segmenter, load_segmenter
from rscontrast.types import STRIDE, PathOrStr

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
"""Format -> how its files end."""

OUTPUTS = ("probabilities", "logits")

KEY = "rscontrast"
"""Where the file holds what a user must know of it, as JSON: see :func:`describe`."""


class Deployed(nn.Module):
    """A segmenter as one function of a pair: normalisation (or none), model, probabilities."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, segmenter: Segmenter, normalise: bool, output: str = "probabilities"
    ) -> None:
        """Take a segmenter.

        Args:
            segmenter: what was read from a checkpoint.
            normalise: whether the pair that comes is not normalised yet.
            output: "probabilities", calibrated, or "logits".

        Raises:
            InputError: an unknown output.
        """
        super().__init__()
        self.output = choose("output", output, OUTPUTS)
        self.module, self.normalise = segmenter.module, normalise
        for name in ("mean", "std"):
            value = torch.tensor(getattr(segmenter.contract, name), dtype=torch.float32)
            self.register_buffer(name, value[:, None, None])

    def forward(self, pair: Tensor) -> Tensor:
        """Classify.

        Args:
            pair: [B, 2, C, H, W], H and W multiples of 32. With ``normalise`` in the units of the
                contract, NaN where a pixel is not usable; else normalised, 0 there.

        Returns:
            [B, K, H, W].
        """
        if self.normalise:
            pair = ((pair - self.mean) / self.std).nan_to_num(nan=0.0)
        logits = self.module.classify(pair)
        return self.module.probabilities(logits) if self.output == "probabilities" else logits


def export(
    checkpoint: PathOrStr,
    out: PathOrStr,
    format: str = "onnx",  # noqa: A002 - the word that a user looks for
    *,
    normalise: bool,
    output: str = "probabilities",
    size: int | None = None,
) -> Path:
    """Write a segmenter as one function, whole or not at all.

    Args:
        checkpoint: of a segmenter.
        out: the file, which ends in .onnx or .pt2.
        format: "onnx" (needs the extra ``export``), or "torch" for :func:`torch.export.load`.
        normalise: whether normalisation goes into the file, which then takes reflectance.
        output: "probabilities", calibrated, or "logits".
        size: side of the images, pixels, a multiple of 32. None: any number of pairs, of any
            height and width that are multiples of 32, at least 64.

    Returns:
        path of the file; its input is ``pair``, see :meth:`Deployed.forward`.

    Raises:
        CheckpointError: not a segmenter of ours.
        InputError: a bad argument, a missing extra, or a model that torch cannot trace for any
            size.
        WriteError: the disk does not take it.
    """
    path, suffix = Path(out), SUFFIXES[choose("format", format, SUFFIXES)]
    if path.suffix != suffix:
        raise InputError("out", str(out), f"a file that ends in {suffix}")
    segmenter = load_segmenter(checkpoint)
    program = _traced(Deployed(segmenter, normalise, output).eval(), size)
    about = json.dumps(describe(segmenter, normalise, output))
    with atomic_path(path) as tmp:
        if format == "onnx":
            _save_onnx(program, tmp, about, output)
        else:
            torch.export.save(program, tmp, extra_files={KEY: about})
    return path


def describe(segmenter: Segmenter, normalise: bool, output: str) -> dict[str, Any]:
    """What a user of the file must know: bands, units, classes, what is inside."""
    return {
        "contract": segmenter.contract.to_dict(),
        "class_names": list(segmenter.class_names),
        "normalise": normalise,
        "output": output,
        "temperature": segmenter.temperature,
        "heads": segmenter.module.heads,
    }


def _traced(module: Deployed, size: int | None) -> ExportedProgram:
    arguments, least = module.module.arguments, module.module.least
    # Sides and numbers that differ from one another and from 1: a trace may take equal for same.
    height, width = least + STRIDE, least + 2 * STRIDE
    shapes: Any = None
    if size is not None:
        height = width = whole("size", size, least=least, multiple=STRIDE)
    else:
        # torch traces a coarsest map of one cell as another program.
        first = max(2, least // STRIDE)
        sides = (STRIDE * Dim(name, min=first, max=1024) for name in ("rows", "cols"))
        shapes = ({0: Dim("batch", max=4096), **dict(zip((3, 4), sides, strict=True))},)
    pair = torch.zeros(1 if size else 2, 2, arguments["in_channels"], height, width)
    try:
        with torch.no_grad():
            return torch.export.export(module, (pair,), dynamic_shapes=shapes)
    # torch's tracers raise classes of their own, which have no root but Exception.
    except Exception as error:
        allowed = "a number of pixels: torch cannot trace this model for any size"
        raise InputError("size", size, f"{allowed} ({_first_line(error)})") from error


def _save_onnx(program: ExportedProgram, path: Path, about: str, output: str) -> None:
    try:
        import onnx  # noqa: F401 - an extra
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError("format", "onnx", "pip install 'rscontrast[export]' for it") from error
    made = torch.onnx.export(program, dynamo=True, verbose=False, output_names=[output])
    if made is None:
        raise InputError("format", "onnx", "torch: this model has no form in ONNX")
    made.model.metadata_props[KEY] = about
    made.save(path, external_data=False)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
