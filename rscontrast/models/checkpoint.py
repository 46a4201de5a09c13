"""Weights on disk, with the sensor contract that says what they were trained on.

An encoder's file is what TorchGeo's decoders load:
``{'hyper_parameters': {'model': name}, 'state_dict': {'model.' + key: tensor}}``, and a key
``contract`` beside it, which TorchGeo ignores. Files hold tensors and plain containers only, so
they load with ``weights_only=True``.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rscontrast.atomic import atomic_path
from rscontrast.errors import BandError, CheckpointError, InputError
from rscontrast.models.damage import SiameseSegmenter
from rscontrast.models.encoder import create_encoder
from rscontrast.types import PathOrStr, SensorContract

PREFIX = "model."


@dataclass(frozen=True)
class Encoder:
    """An encoder that was read from disk."""

    name: str
    """As :func:`rscontrast.models.create_encoder` takes it."""
    module: nn.Module
    """The encoder, on the CPU, in evaluation mode."""
    contract: SensorContract
    """What it was trained on."""

    def require(self, name: str, in_channels: int) -> None:
        """Refuse to stand in for another encoder.

        Raises:
            InputError: it has another name.
            BandError: it has another number of bands.
        """
        if self.name != name:
            raise InputError("encoder", name, f"{self.name!r}, as the checkpoint holds")
        if len(self.contract.bands) != in_channels:
            allowed = f"{len(self.contract.bands)}, as the checkpoint was trained"
            raise BandError("in_channels", in_channels, allowed)


@dataclass(frozen=True)
class Segmenter:
    """A segmenter that was read from disk."""

    module: SiameseSegmenter
    """On the CPU, in evaluation mode."""
    contract: SensorContract
    """What it was trained on."""
    class_names: tuple[str, ...]
    """Class i is ``class_names[i]``."""


def save_encoder(path: PathOrStr, encoder: nn.Module, name: str, contract: SensorContract) -> None:
    """Write an encoder, whole or not at all.

    Raises:
        WriteError: the disk does not take it.
    """
    weights = {PREFIX + key: value for key, value in encoder.state_dict().items()}
    _save(path, {"hyper_parameters": {"model": name}, "state_dict": weights}, contract)


def load_encoder(path: PathOrStr, bands: Sequence[str] | None = None) -> Encoder:
    """Read an encoder.

    Args:
        path: what :func:`save_encoder` wrote, or Lightning from one of our tasks.
        bands: the bands that it will be fed, in order; None: those that it was trained on.

    Raises:
        CheckpointError: not an encoder of ours.
        BandError: it was trained on other bands.
    """
    data, contract = _load(path, "encoder", ("hyper_parameters", "state_dict"), bands)
    name = data["hyper_parameters"]["model"]
    module = create_encoder(name, len(contract.bands))
    # A checkpoint of Lightning holds the projection head too.
    weights = {
        k.removeprefix(PREFIX): v for k, v in data["state_dict"].items() if k.startswith(PREFIX)
    }
    return Encoder(name, _fill(module, weights, path), contract)


def save_segmenter(
    path: PathOrStr,
    module: SiameseSegmenter,
    arguments: dict[str, Any],
    contract: SensorContract,
    class_names: Sequence[str],
) -> None:
    """Write a segmenter, whole or not at all.

    Args:
        path: the file.
        module: the segmenter.
        arguments: with which it was built.
        contract: what it was trained on.
        class_names: class i is ``class_names[i]``.

    Raises:
        WriteError: the disk does not take it.
    """
    parts = {
        "segmenter": dict(arguments),
        "class_names": list(class_names),
        "state_dict": module.state_dict(),
    }
    _save(path, parts, contract)


def load_segmenter(path: PathOrStr, bands: Sequence[str] | None = None) -> Segmenter:
    """Read a segmenter.

    Args:
        path: what :func:`save_segmenter` wrote.
        bands: the bands that it will be fed, in order; None: those that it was trained on.

    Raises:
        CheckpointError: not a segmenter of ours.
        BandError: it was trained on other bands.
    """
    data, contract = _load(path, "segmenter", ("segmenter", "class_names", "state_dict"), bands)
    module = SiameseSegmenter(**data["segmenter"])
    _fill(module, data["state_dict"], path)
    return Segmenter(module, contract, tuple(data["class_names"]))


def read_contract(path: PathOrStr) -> SensorContract:
    """What an encoder or a segmenter was trained on.

    Raises:
        CheckpointError: neither of ours.
    """
    return _load(path, "encoder or a segmenter", (), None)[1]


def _save(path: PathOrStr, data: dict[str, Any], contract: SensorContract) -> None:
    with atomic_path(Path(path)) as tmp:
        try:
            torch.save({**data, "contract": contract.to_dict()}, tmp)
        except RuntimeError as error:
            # torch's zip writer reports a full disk as a RuntimeError.
            raise OSError(f"{error}; is the disk full?") from error


def _load(
    path: PathOrStr, kind: str, keys: tuple[str, ...], bands: Sequence[str] | None
) -> tuple[dict[str, Any], SensorContract]:
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file; name a checkpoint of an {kind}")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or cut short ({error})") from error
    if not isinstance(data, dict) or not {*keys, "contract"} <= set(data):
        raise CheckpointError(f"{path}: no {kind} of rscontrast; write one with save_{kind}")
    contract = SensorContract.from_dict(data["contract"])
    if bands is not None:
        contract.require(bands)
    return data, contract


def _fill(module: nn.Module, weights: dict[str, Any], path: PathOrStr) -> nn.Module:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit the model ({error})") from error
    return module.eval()
