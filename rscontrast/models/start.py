"""Weights that an encoder starts from: ours, TorchGeo's by name, or from a checkpoint of theirs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rscontrast.errors import BandError, CheckpointError, InputError
from rscontrast.models.checkpoint import load_encoder, read_checkpoint
from rscontrast.stac.providers.sensors import HLS_L30, SENTINEL2
from rscontrast.types import SensorContract

PREFIXES = ("model.backbone.model.", "model.encoder.", "backbone.", "model.", "encoder.", "")
"""Under which TorchGeo's tasks keep an encoder: BYOL, segmentation, SimCLR and MoCo, others."""
NAMED = re.compile(r"\w+_Weights\.\w+")

LANDSAT_TM = {
    "blue": "B01", "green": "B02", "red": "B03", "nir": "B04", "nir08": "B04", "swir16": "B05",
    "swir22": "B07",
}  # fmt: skip
AERIAL = {"red": "R", "green": "G", "blue": "B", "nir": "N"}
SENSORS = {
    "SENTINEL2": SENTINEL2, "LANDSAT_TM": LANDSAT_TM, "LANDSAT_ETM": LANDSAT_TM,
    "LANDSAT": HLS_L30,
}  # fmt: skip
"""Common names of a sensor's bands, by how names of TorchGeo's weights begin."""

type Weights = Mapping[str, Tensor]


def load_start(encoder: nn.Module, weights: str, name: str, in_channels: int) -> None:
    """Fill an encoder with what it shall start from; every one of its tensors must be there.

    Args:
        encoder: of :func:`rscontrast.models.create_encoder`.
        weights: a file (a checkpoint of ours, one of Lightning from a task of TorchGeo, or a
            plain state_dict), or the name of weights of :mod:`torchgeo.models`
            ("ResNet18_Weights.SENTINEL2_ALL_MOCO"), which are downloaded once.
        name: of the encoder.
        in_channels: its bands.

    Raises:
        InputError: a checkpoint of ours is of another encoder, or TorchGeo has no such weights.
        CheckpointError: the file is no checkpoint, or not of this encoder.
        BandError: of another number of bands.
    """
    if _is_name(weights):
        found = _named(weights)
    else:
        data = read_checkpoint(weights, "encoder")
        if "contract" in data:
            start = load_encoder(weights)
            start.require(name, in_channels)
            encoder.load_state_dict(start.module.state_dict())
            return
        found = data.get("state_dict", data)
    _fill(encoder, found, weights, in_channels)


def require_bands(weights: str, bands: Sequence[str]) -> None:
    """Refuse weights that were trained on other bands, or on these in another order.

    A checkpoint of ours names its bands, and so do most weights of TorchGeo, by those of their
    sensor ("B4") where ours may be common names ("red"): what both tell is compared. A band whose
    name says nothing of its sensor ("visual"), and what is in other files, is not: of these the
    number must fit, and their order is the user's.

    Raises:
        BandError: names both lists.
        CheckpointError: the file is no checkpoint.
        InputError: TorchGeo has no such weights.
    """
    if _is_name(weights):
        _require_named(weights, bands)
        return
    data = read_checkpoint(weights, "encoder")
    if "contract" in data:
        SensorContract.from_dict(data["contract"]).require(bands)


def _is_name(weights: str) -> bool:
    return NAMED.fullmatch(weights) is not None and not Path(weights).exists()


def _require_named(weights: str, bands: Sequence[str]) -> None:
    """Compare our bands with those that weights of TorchGeo tell, place by place."""
    theirs = [str(band) for band in _chosen(weights).meta.get("bands") or ()]
    member = weights.split(".")[1]
    plain = AERIAL if {_code(band) for band in theirs} <= set(AERIAL.values()) else {}
    sensor = next((table for name, table in SENSORS.items() if member.startswith(name)), plain)
    codes = set(sensor.values()) | {_code(band) for band in theirs}
    ours = [sensor.get(band, _code(band)) for band in bands]
    pairs = zip(ours, map(_code, theirs), strict=False)
    unlike = any(own != their for own, their in pairs if own in codes)
    if theirs and (unlike or len(ours) != len(theirs)):
        raise BandError("bands", tuple(bands), f"{tuple(theirs)} in this order, as {weights} has")


def _code(band: str) -> str:
    """One spelling of a band: B4, B04 and SR_B4 are B04, B8a is B8A, NIR is N."""
    name = band.upper().removeprefix("SR_").replace("NIR", "N")
    return re.sub(r"^B(\d)$", r"B0\1", name)


def _chosen(weights: str) -> Any:
    from torchgeo.models import get_weight  # not needed, and not light, where a file is given

    try:
        return get_weight(weights)
    except (ValueError, KeyError) as error:
        allowed = "a file, or weights of torchgeo.models as 'ResNet18_Weights.SENTINEL2_ALL_MOCO'"
        raise InputError("weights", weights, allowed) from error


def _named(weights: str) -> Weights:
    chosen = _chosen(weights)
    try:
        found: Weights = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{weights}: not downloaded ({error})") from error
    return found


def _fill(encoder: nn.Module, found: Weights, source: str, in_channels: int) -> None:
    wanted = encoder.state_dict()
    chosen = min((_under(found, prefix, wanted) for prefix in PREFIXES), key=lambda c: len(c[1]))
    matched, missing = chosen
    if missing:
        some = ", ".join(missing[:3])
        what = f"lack {len(missing)} of the encoder's {len(wanted)} tensors ({some}, ...)"
        raise CheckpointError(f"{source}: weights {what}: name the encoder they were made for")
    unlike = [key for key, value in matched.items() if value.shape != wanted[key].shape]
    for key in unlike:
        theirs, ours = matched[key].shape, wanted[key].shape
        if theirs[:1] + theirs[2:] == ours[:1] + ours[2:] and ours[1] == in_channels:
            raise BandError("in_channels", in_channels, f"{theirs[1]}, as the weights have")
        raise CheckpointError(f"{source}: {key} is {tuple(theirs)}, the encoder's {tuple(ours)}")
    encoder.load_state_dict(matched)


def _under(found: Weights, prefix: str, wanted: Weights) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of the encoder that stand under a prefix, and the names of those that do not.

    timm names a stage ``stages.0`` or ``stages_0``, and SMP has a timm model under ``model.``.
    """
    own: dict[str, Any] = {
        _flat(key.removeprefix(prefix)): value
        for key, value in found.items()
        if key.startswith(prefix)
    }
    pairs = {key: own.get(_flat(key), own.get(_flat(key.removeprefix("model.")))) for key in wanted}
    matched = {key: value for key, value in pairs.items() if isinstance(value, torch.Tensor)}
    return matched, [key for key in wanted if key not in matched]


def _flat(key: str) -> str:
    return key.replace(".", "_")
