"""What a catalog of models says of an encoder: a STAC Item with the MLM extension."""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
import torch
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from rscontrast.atomic import write_text
from rscontrast.models.checkpoint import Encoder, load_encoder
from rscontrast.models.encoder import embedding_size
from rscontrast.types import PathOrStr, SensorContract

EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
TASKS = ["similarity-search"]
"""Of those that the extension has a name for, the one that needs nothing but embeddings."""

type Interval = tuple[datetime, datetime]
"""First and last date, in UTC."""


def item_path(checkpoint: PathOrStr) -> Path:
    """Where the item of a checkpoint stands: beside it, as NAME.item.json."""
    return Path(checkpoint).with_suffix(".item.json")


def write_model_item(
    checkpoint: PathOrStr,
    *,
    method: str = "pretraining",
    hyperparameters: Mapping[str, Any] | None = None,
    geometry: BaseGeometry | None = None,
    interval: Interval | None = None,
) -> Path:
    """Write the item of an encoder beside its checkpoint, whole or not at all.

    Args:
        checkpoint: what :func:`rscontrast.models.save_encoder` wrote.
        method: how it was trained, as in "SimCLR".
        hyperparameters: with which.
        geometry: where the training data lies, longitude and latitude; None: not known.
        interval: when it was taken; None: not known, the item then has the date of writing.

    Returns:
        path of the item.

    Raises:
        CheckpointError: it is no encoder of ours.
        WriteError: the disk does not take it.
    """
    item = model_item(
        checkpoint,
        method=method,
        hyperparameters=hyperparameters,
        geometry=geometry,
        interval=interval,
    )
    path = item_path(checkpoint)
    write_text(path, json.dumps(item.to_dict(include_self_link=False), indent=2))
    return path


def model_item(
    checkpoint: PathOrStr,
    *,
    method: str = "pretraining",
    hyperparameters: Mapping[str, Any] | None = None,
    geometry: BaseGeometry | None = None,
    interval: Interval | None = None,
) -> pystac.Item:
    """Make the item, see :func:`write_model_item`."""
    path, encoder = Path(checkpoint), load_encoder(checkpoint)
    properties = _properties(encoder, method, hyperparameters or {})
    if geometry is not None and interval is not None:
        source = "temporal pairs of the area and the time of this item"
        properties["mlm:pretrained_source"] = source
    known: dict[str, Any] = {"datetime": datetime.now(UTC)}
    if interval is not None:
        known = {"datetime": None, "start_datetime": interval[0], "end_datetime": interval[1]}
    item = pystac.Item(
        path.stem,
        None if geometry is None else mapping(geometry),
        None if geometry is None else list(geometry.bounds),
        properties=properties,
        stac_extensions=list(EXTENSIONS),
        **known,
    )
    item.add_asset("model", _asset(path, encoder.contract))
    return item


def _properties(
    encoder: Encoder, method: str, hyperparameters: Mapping[str, Any]
) -> dict[str, Any]:
    # The extension allows letters, digits and _ . - in names.
    name = re.sub(r"[^0-9a-zA-Z_.]+", "-", f"rscontrast-{method}-{encoder.name}").rstrip("_.-")
    plain = {"encoder": encoder.name, **json.loads(json.dumps(dict(hyperparameters), default=str))}
    return {
        "mlm:name": name,
        "mlm:architecture": encoder.name,
        "mlm:tasks": TASKS,
        "mlm:framework": "PyTorch",
        "mlm:framework_version": str(torch.__version__),
        "mlm:total_parameters": sum(p.numel() for p in encoder.module.parameters()),
        "mlm:pretrained": True,
        "mlm:pretrained_source": "temporal pairs",
        "mlm:hyperparameters": plain,
        "mlm:input": [_input(encoder.contract)],
        "mlm:output": [_output(embedding_size(encoder.module))],
        "gsd": encoder.contract.res,
    }


def _input(contract: SensorContract) -> dict[str, Any]:
    scaling = [
        {"type": "z-score", "mean": mean, "stddev": std}
        for mean, std in zip(contract.mean, contract.std, strict=True)
    ]
    return {
        "name": "reflectance",
        "description": "reflectance of one date; pixels that are not valid are 0 once scaled",
        "bands": list(contract.bands),
        "input": {
            "shape": [-1, len(contract.bands), -1, -1],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": scaling,
        "resize_type": None,
    }


def _output(size: int) -> dict[str, Any]:
    return {
        "name": "embedding",
        "description": "mean over height and width of the coarsest feature map",
        "tasks": TASKS,
        "result": {
            "shape": [-1, size],
            "dim_order": ["batch", "embedding"],
            "data_type": "float32",
        },
    }


def _asset(path: Path, contract: SensorContract) -> pystac.Asset:
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    fields = {
        "mlm:artifact_type": "torch.save",
        # A multihash: 12 is SHA-256, 20 its length, both in hexadecimal.
        "file:checksum": f"1220{checksum}",
        "file:size": path.stat().st_size,
        "bands": [{"name": band} for band in contract.bands],
    }
    return pystac.Asset(
        f"./{path.name}",
        title="weights of the encoder, with its sensor contract",
        media_type="application/octet-stream; application=pytorch",
        roles=["mlm:model", "mlm:weights"],
        extra_fields=fields,
    )
