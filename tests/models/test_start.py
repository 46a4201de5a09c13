"""Weights to start from: of TorchGeo by name or from its checkpoints, plain ones, ours."""

import pytest
import timm
import torch
import torchgeo.tasks
from torchgeo.models import ResNet18_Weights

from rscontrast.errors import BandError, CheckpointError, InputError
from rscontrast.models import create_encoder, save_encoder
from rscontrast.models.start import require_bands
from rscontrast.tasks import MoCo, SimCLR
from tests.sample_world import CONTRACT


def resnet(bands=4, seed=3):
    torch.manual_seed(seed)
    return timm.create_model("resnet18", in_chans=bands, num_classes=0)


def start(path, name="resnet18", bands=4):
    torch.manual_seed(0)
    return SimCLR(model=name, in_channels=bands, weights=str(path), hidden_dim=8, output_dim=4)


def holds(task, weights):
    """Whether the encoder gives what a model of timm gives with those weights."""
    images = torch.randn(2, weights.conv1.in_channels, 64, 64)
    with torch.inference_mode():
        found, expected = task.eval()(images), weights.eval()(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "tu-resnet18"])
def test_a_plain_state_dict_fills_smps_and_timms_encoder(name, tmp_path):
    weights = resnet()
    torch.save(weights.state_dict(), tmp_path / "plain.pth")
    holds(start(tmp_path / "plain.pth", name), weights)


def test_weights_of_torchgeo_by_name(tmp_path, monkeypatch):
    """By its own loading code, which finds the download where it would have put it."""
    chosen = ResNet18_Weights.SENTINEL2_RGB_MOCO
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    bands = chosen.meta["in_chans"]
    weights = resnet(bands)
    torch.save(weights.state_dict(), folder / chosen.url.rsplit("/", 1)[1].split("?")[0])
    holds(start("ResNet18_Weights.SENTINEL2_RGB_MOCO", bands=bands), weights)
    with pytest.raises(BandError, match=rf"in_channels: got 4; allowed: {bands}"):
        start("ResNet18_Weights.SENTINEL2_RGB_MOCO")


@pytest.mark.parametrize(
    ("weights", "bands"),
    [
        ("ResNet18_Weights.SENTINEL2_RGB_MOCO", ["red", "green", "blue"]),
        ("ResNet18_Weights.SENTINEL2_RGB_MOCO", ["B04", "B3", "visual_3"]),
        ("ResNet18_Weights.LANDSAT_ETM_SR_MOCO", ["blue", "green", "red", "nir08", "swir16",
                                                  "swir22"]),
        ("Swin_V2_B_Weights.NAIP_RGB_MI_SATLAS", ["red", "green", "blue"]),
    ],
)  # fmt: skip
def test_bands_of_torchgeos_weights_are_known_by_their_common_names(weights, bands):
    require_bands(weights, bands)
    for other in ([bands[1], bands[0], *bands[2:]], ["nir", *bands[1:]], bands[:-1]):
        with pytest.raises(BandError, match=r"bands: got \(.*allowed: \(.*in this order"):
            require_bands(weights, other)


def test_a_download_that_fails_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    with pytest.raises(CheckpointError, match=r"not downloaded.*no route"):
        start("ResNet18_Weights.SENTINEL2_ALL_MOCO", bands=13)
    with pytest.raises(InputError, match=r"weights: got 'ResNet18_Weights\.NONE'"):
        start("ResNet18_Weights.NONE")


def _no_network(*_, **__):
    raise OSError("no route")


@pytest.mark.parametrize("prefix", ["backbone.", "model.", "model.backbone.model.", "encoder."])
def test_checkpoints_of_torchgeos_tasks(prefix, tmp_path):
    weights, other = resnet(), resnet(seed=4)
    state = {prefix + key: value for key, value in weights.state_dict().items()}
    state |= {f"backbone_momentum.{key}": value for key, value in other.state_dict().items()}
    path = tmp_path / "theirs.ckpt"
    torch.save({"hyper_parameters": {"model": "resnet18"}, "state_dict": state}, path)
    holds(start(path), weights)


def test_a_real_checkpoint_of_their_simclr(tmp_path):
    theirs = torchgeo.tasks.SimCLR(
        model="resnet18", in_channels=4, version=1, layers=2, memory_bank_size=0, size=64
    )
    path = tmp_path / "theirs.ckpt"
    torch.save({"hyper_parameters": {}, "state_dict": theirs.state_dict()}, path)
    holds(start(path), theirs.backbone)


def test_copies_start_from_the_weights_too(tmp_path):
    weights = resnet()
    torch.save(weights.state_dict(), tmp_path / "plain.pth")
    task = MoCo(weights=str(tmp_path / "plain.pth"), hidden_dim=8, output_dim=4, queue_size=4)
    own, copied = task.model.state_dict(), task.momentum_encoder.module.state_dict()
    assert all(torch.equal(own[key], copied[key]) for key in own)
    assert torch.equal(copied["conv1.weight"], weights.conv1.weight)


def test_ours_is_refused_for_another_encoder(tmp_path):
    save_encoder(tmp_path / "ours.pt", create_encoder("resnet18", 4), "resnet18", CONTRACT)
    start(tmp_path / "ours.pt")
    with pytest.raises(InputError, match="encoder: got 'resnet34'"):
        start(tmp_path / "ours.pt", "resnet34")


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    path = tmp_path / "plain.pth"
    torch.save(resnet().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"lack \d+ of the encoder's \d+ tensors"):
        start(path, "resnet34")
    torch.save(resnet(13).state_dict(), path)
    with pytest.raises(BandError, match="in_channels: got 4; allowed: 13, as the weights have"):
        start(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="a list, not a checkpoint"):
        start(path)
    with pytest.raises(CheckpointError, match="no such file"):
        start(tmp_path / "none.pt")
