"""The item of an encoder says what it was fed, as the MLM extension asks, and is valid STAC."""

import hashlib
import json
import re
from datetime import UTC, datetime

import pystac
import pystac.validation
import pytest
import shapely
import torch
from pystac.extensions.mlm import AssetGeneralMLMExtension, MLMExtension

from rscontrast.errors import CheckpointError, WriteError
from rscontrast.models import create_encoder, save_encoder, write_model_item
from rscontrast.models.item import EXTENSIONS
from rscontrast.stages import pretrain
from tests.sample_world import BANDS, CONTRACT, event_pairs, scenes

AREA = shapely.box(11, 45, 13, 46)
TIMES = (datetime(2022, 1, 1, tzinfo=UTC), datetime(2022, 9, 1, tzinfo=UTC))


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder.pt", create_encoder("resnet18", 4), "resnet18", CONTRACT)
    return tmp_path / "encoder.pt"


def valid(path):
    """Read an item that pystac's own schema of STAC 1.1 finds no fault with."""
    item = pystac.Item.from_file(path)
    plain = item.to_dict(include_self_link=False)
    # The extensions' schemas are not on this machine; their rules are stated below.
    pystac.validation.validate_dict(plain | {"stac_extensions": []})
    return item


def follows_the_extension(item):
    """The rules of the schema of the MLM extension 1.4 that an item of an encoder meets."""
    told = item.properties
    assert set(EXTENSIONS) <= set(item.stac_extensions)
    assert {"mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"} <= set(told)
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", told["mlm:name"])
    assert not {"mlm:artifact_type", "mlm:compile_method", "mlm:entrypoint"} & set(told)
    assert re.match(r"\d+\.\d+\.\d+", told["mlm:framework_version"])
    assert told["mlm:tasks"] == ["similarity-search"]
    assert told["mlm:hyperparameters"]
    assert all(re.fullmatch(r"[0-9a-zA-Z_.-]+", name) for name in told["mlm:hyperparameters"])
    for structure in (told["mlm:input"][0]["input"], told["mlm:output"][0]["result"]):
        assert len(structure["shape"]) == len(structure["dim_order"])
        assert all(isinstance(side, int) and side >= -1 for side in structure["shape"])
        assert all(re.fullmatch(r"[a-z\-_]+", name) for name in structure["dim_order"])
    models = [asset for asset in item.assets.values() if "mlm:model" in asset.roles]
    assert len(models) == 1
    fields = models[0].extra_fields
    assert fields["mlm:artifact_type"] == "torch.save"
    assert not {"mlm:name", "mlm:input", "mlm:output", "mlm:hyperparameters"} & set(fields)
    # Bands that an input names are described by the model's asset.
    assert [band["name"] for band in fields["bands"]] == told["mlm:input"][0]["bands"]


def test_it_says_what_the_encoder_was_fed(checkpoint):
    given = {"temperature": 0.5, "weights": None, "loss_args": {"select": "nearest"}}
    path = write_model_item(
        checkpoint, method="FALSE (nearest)", hyperparameters=given, geometry=AREA, interval=TIMES
    )
    assert path.name == "encoder.item.json"
    item = valid(path)
    follows_the_extension(item)
    assert item.properties["mlm:name"] == "rscontrast-FALSE-nearest-resnet18"
    assert item.bbox == [11, 45, 13, 46]
    assert item.datetime is None
    assert item.properties["mlm:pretrained_source"].endswith("the time of this item")
    assert item.properties["end_datetime"].startswith("2022-09-01")
    told = MLMExtension.ext(item)
    assert (told.architecture, told.framework) == ("resnet18", "PyTorch")
    assert told.hyperparameters.to_dict() == {"encoder": "resnet18"} | given
    (fed,), (made,) = told.input, told.output
    assert fed.bands == list(BANDS)
    assert fed.input.shape == [-1, 4, -1, -1]
    # The extension has a list here, one entry a band, of which pystac makes one object.
    scaling = item.properties["mlm:input"][0]["value_scaling"]
    assert [one["mean"] for one in scaling] == list(CONTRACT.mean)
    assert [one["stddev"] for one in scaling] == list(CONTRACT.std)
    assert {one["type"] for one in scaling} == {"z-score"}
    assert made.result.shape == [-1, 512]
    assert told.total_parameters == sum(
        p.numel() for p in create_encoder("resnet18", 4).parameters()
    )
    assert item.properties["gsd"] == CONTRACT.res


def test_its_asset_is_the_checkpoint(checkpoint):
    item = valid(write_model_item(checkpoint))
    asset = item.assets["model"]
    assert asset.get_absolute_href() == str(checkpoint)
    assert AssetGeneralMLMExtension.ext(asset).artifact_type == "torch.save"
    content = checkpoint.read_bytes()
    assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    assert asset.extra_fields["file:size"] == len(content)


def test_what_is_not_known_is_not_said(checkpoint):
    plain = json.loads(write_model_item(checkpoint).read_text())
    assert plain["geometry"] is None
    assert "bbox" not in plain
    assert plain["properties"]["datetime"] is not None
    assert plain["properties"]["mlm:pretrained_source"] == "temporal pairs"
    follows_the_extension(valid(checkpoint.with_suffix(".item.json")))


def test_it_is_written_whole_or_not_at_all(checkpoint):
    with pytest.raises(CheckpointError):
        write_model_item(checkpoint.with_name("none.pt"))
    checkpoint.with_suffix(".item.json").mkdir()
    with pytest.raises(WriteError):
        write_model_item(checkpoint)
    assert {path.name for path in checkpoint.parent.iterdir()} == {
        "encoder.pt",
        "encoder.item.json",
    }


def test_a_pretraining_writes_it(tmp_path):
    options = {"epochs": 1, "length": 4, "batch_size": 4, "patch_size": 32, "progress": False}
    pairs = event_pairs()
    out = pretrain(
        scenes(), pairs, tmp_path / "encoder.pt", bands=BANDS, encoder="tu-resnet10t", **options
    )
    item = valid(out.with_suffix(".item.json"))
    follows_the_extension(item)
    assert item.properties["mlm:hyperparameters"]["model"] == "tu-resnet10t"
    assert shapely.geometry.shape(item.geometry).covers(pairs.union_all())
    assert item.properties["start_datetime"].startswith(f"{pairs['pre_datetime'].min():%Y-%m-%d}")
    assert item.properties["end_datetime"].startswith(f"{pairs['post_datetime'].max():%Y-%m-%d}")
