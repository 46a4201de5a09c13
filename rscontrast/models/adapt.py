"""Weights of an encoder for other bands than it was trained on.

One rule says all of it: a band that is missing is read as its mean, a band that is new is not yet
listened to. Inputs are normalised, so a band at its mean is 0 and adds nothing to the first
layer: dropping it drops its weights. A new band's weights begin at 0: the features begin as those
that were learned, whatever the new band holds, and the first gradient moves the weights off 0
(it is the band times the gradient of the layer's output). Weights that begin at the mean of the
other bands' would shift every feature instead. Nothing is rescaled. Ours; a reconstruction of
"inflating" a first layer (Carreira and Zisserman 2017, arXiv 1705.07750), with zeros.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from rscontrast.errors import CheckpointError
from rscontrast.models.encoder import create_encoder


def adapt_weights(
    weights: Mapping[str, Tensor], name: str, bands: Sequence[str], wanted: Sequence[str]
) -> dict[str, Tensor]:
    """Reorder, drop and add channels of the layers that read the image.

    Args:
        weights: state of the encoder.
        name: of the encoder.
        bands: that it was trained on.
        wanted: that it will be fed.

    Returns:
        state of the encoder with ``len(wanted)`` bands.

    Raises:
        CheckpointError: more than the width of its first layers depends on the bands.
    """
    inputs = _inputs(name, len(bands))
    return {
        key: _select(value, bands, wanted) if key in inputs else value
        for key, value in weights.items()
    }


def _inputs(name: str, count: int) -> set[str]:
    """Keys of the weights whose second axis is the bands."""
    one, more = (create_encoder(name, n).state_dict() for n in (count, count + 1))
    found = {key for key in one if one[key].shape != more[key].shape}
    for key in found:
        rest = [shape[:1] + shape[2:] for shape in (one[key].shape, more[key].shape)]
        if rest[0] != rest[1] or one[key].shape[1:2] != (count,):
            raise CheckpointError(f"{name}: {key} depends on the bands; train it on these bands")
    return found


def _select(weight: Tensor, bands: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Weights [out, bands, ...] -> [out, wanted, ...]."""
    chosen = weight.new_zeros(weight.shape[0], len(wanted), *weight.shape[2:])
    for index, band in enumerate(wanted):
        if band in bands:
            chosen[:, index] = weight[:, bands.index(band)]
    return chosen
