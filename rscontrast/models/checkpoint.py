"""Weights on disk, with the sensor contract that says what they were trained on.

An encoder's file is what TorchGeo's decoders load:
``{'hyper_parameters': {'model': name}, 'state_dict': {'model.' + key: tensor}}``, and a key
``contract`` beside it, which TorchGeo ignores. Files hold tensors and plain containers only, so
they load with ``weights_only=True``. A segmenter's file holds what it was built with, the names of
its classes, its temperature and its weights.
"""

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rscontrast.atomic import atomic_path
from rscontrast.errors import BandError, CheckpointError, InputError
from rscontrast.models.adapt import adapt_weights
from rscontrast.models.damage import PairSegmenter, SiameseSegmenter
from rscontrast.models.encoder import create_encoder
from rscontrast.models.segmenter import create_segmenter
from rscontrast.types import PathOrStr, SensorContract

PREFIX = "model."

type Data = Sequence[str] | SensorContract
"""Names of the bands, in channel order, or all that is known of the data."""


@dataclass(frozen=True)
class Encoder:
    """An encoder that was read from disk."""

    name: str
    """As :func:`rscontrast.models.create_encoder` takes it."""
    module: nn.Module
    """The encoder, on the CPU, in evaluation mode."""
    contract: SensorContract
    """What it was trained on, or was adapted to."""

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

    module: PairSegmenter
    """On the CPU, in evaluation mode; it knows its fusion, its heads and its temperature."""
    contract: SensorContract
    """What it was trained on, or was adapted to."""
    class_names: tuple[str, ...]
    """Class i is ``class_names[i]``."""

    @property
    def temperature(self) -> float:
        """What its logits are divided by: 1 before calibration."""
        return self.module.temperature


def save_encoder(path: PathOrStr, encoder: nn.Module, name: str, contract: SensorContract) -> None:
    """Write an encoder, whole or not at all.

    Raises:
        WriteError: the disk does not take it.
    """
    weights = {PREFIX + key: value for key, value in encoder.state_dict().items()}
    _save(path, {"hyper_parameters": {"model": name}, "state_dict": weights}, contract)


def load_encoder(path: PathOrStr, bands: Data | None = None, *, adapt: bool = False) -> Encoder:
    """Read an encoder.

    Args:
        path: what :func:`save_encoder` wrote, or Lightning from one of our tasks.
        bands: the bands that it will be fed, in order, or the contract of the data; None: those
            that it was trained on.
        adapt: fit it to ``bands``: reorder, drop and add channels, see
            :mod:`rscontrast.models.adapt`. Its contract is then
            :meth:`rscontrast.types.SensorContract.adapted`.

    Raises:
        CheckpointError: not an encoder of ours, or one that cannot be adapted.
        BandError: it was trained on other bands; with ``adapt``, it has none of these, or of a
            new one mean and std are not said.
        InputError: it was trained on another scale or pixel size.
    """
    data = _load(path, "encoder", ("hyper_parameters", "state_dict"))
    trained, contract = _contracts(data, bands, adapt)
    name = data["hyper_parameters"]["model"]
    module = create_encoder(name, len(contract.bands))
    # A checkpoint of Lightning holds the projection head too.
    weights = {
        k.removeprefix(PREFIX): v for k, v in data["state_dict"].items() if k.startswith(PREFIX)
    }
    if contract.bands != trained.bands:
        weights = adapt_weights(weights, name, trained.bands, contract.bands)
    return Encoder(name, _fill(module, weights, path), contract)


def save_segmenter(
    path: PathOrStr,
    module: PairSegmenter,
    contract: SensorContract,
    class_names: Sequence[str],
) -> None:
    """Write a segmenter, with its temperature, whole or not at all.

    Args:
        path: the file.
        module: the segmenter.
        contract: what it was trained on.
        class_names: class i is ``class_names[i]``.

    Raises:
        InputError: another number of names than classes.
        WriteError: the disk does not take it.
    """
    if len(class_names) != module.arguments["classes"]:
        raise InputError("class_names", tuple(class_names), f"{module.arguments['classes']} names")
    parts = {
        "segmenter": module.arguments,
        "class_names": list(class_names),
        "temperature": module.temperature,
        "state_dict": module.state_dict(),
    }
    _save(path, parts, contract)


def load_segmenter(path: PathOrStr, bands: Data | None = None, *, adapt: bool = False) -> Segmenter:
    """Read a segmenter.

    Args:
        path: what :func:`save_segmenter` wrote.
        bands: the bands that it will be fed, in order, or the contract of the data; None: those
            that it was trained on.
        adapt: fit its encoder to ``bands``, as in :func:`load_encoder`.

    Raises:
        CheckpointError: not a segmenter of ours, or one that cannot be adapted.
        BandError: it was trained on other bands, as in :func:`load_encoder`.
        InputError: it was trained on another scale or pixel size.
    """
    data = _load(path, "segmenter", ("segmenter", "class_names", "state_dict"))
    trained, contract = _contracts(data, bands, adapt)
    module = create_segmenter(**data["segmenter"] | {"in_channels": len(contract.bands)})
    weights = _renamed(data["state_dict"], module)
    if contract.bands != trained.bands:
        if not isinstance(module, SiameseSegmenter):
            raise CheckpointError(f"{path}: a model of TorchGeo, which is not adapted; retrain it")
        name = data["segmenter"]["encoder"]
        own = {k: v for k, v in weights.items() if k.startswith("encoder.")}
        bare = {k.removeprefix("encoder."): v for k, v in own.items()}
        fitted = adapt_weights(bare, name, trained.bands, contract.bands)
        weights |= {f"encoder.{k}": v for k, v in fitted.items()}
    _fill(module, weights, path)
    module.temperature = data.get("temperature", 1.0)
    return Segmenter(module, contract, tuple(data["class_names"]))


def read_checkpoint(path: PathOrStr, kind: str) -> dict[str, Any]:
    """Read any file of weights: tensors and plain containers only.

    Args:
        path: the file.
        kind: what it should hold, for the error.

    Raises:
        CheckpointError: there is none, or it is no checkpoint.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file; name a checkpoint of an {kind}")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or cut short ({error})") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: a {type(data).__name__}, not a checkpoint of an {kind}")
    return data


def checkpoint_kind(path: PathOrStr) -> str:
    """Whether a file is a "segmenter" or an "encoder".

    Raises:
        CheckpointError: neither of ours.
    """
    data = _load(path, "encoder or a segmenter", ())
    return "segmenter" if "segmenter" in data else "encoder"


def read_contract(path: PathOrStr) -> SensorContract:
    """What an encoder or a segmenter was trained on.

    Raises:
        CheckpointError: neither of ours.
    """
    return SensorContract.from_dict(_load(path, "encoder or a segmenter", ())["contract"])


def _renamed(weights: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """Weights by the names of today: fusions were bare convolutions once, one at every level."""
    renamed = {
        re.sub(r"^(fuse\.\d+)\.(weight|bias)$", r"\1.conv.\2", key): value
        for key, value in weights.items()
    }
    own = module.state_dict()
    unread = {key for key in renamed if key.startswith("fuse.") and key not in own}
    return {key: value for key, value in renamed.items() if key not in unread}


def _contracts(
    data: dict[str, Any], wanted: Data | None, adapt: bool
) -> tuple[SensorContract, SensorContract]:
    """What a checkpoint was trained on, and what it is to be fed."""
    trained = SensorContract.from_dict(data["contract"])
    if wanted is None:
        return trained, trained
    if adapt:
        return trained, trained.adapted(wanted)
    trained.require(wanted)
    return trained, trained


def _save(path: PathOrStr, data: dict[str, Any], contract: SensorContract) -> None:
    with atomic_path(Path(path)) as tmp:
        try:
            torch.save({**data, "contract": contract.to_dict()}, tmp)
        except RuntimeError as error:
            # torch's zip writer reports a full disk as a RuntimeError.
            raise OSError(f"{error}; is the disk full?") from error


def _load(path: PathOrStr, kind: str, keys: tuple[str, ...]) -> dict[str, Any]:
    data = read_checkpoint(path, kind)
    if not {*keys, "contract"} <= set(data):
        raise CheckpointError(f"{path}: no {kind} of rscontrast; write one with save_{kind}")
    return data


def _fill(module: nn.Module, weights: dict[str, Any], path: PathOrStr) -> nn.Module:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit the model ({error})") from error
    return module.eval()
