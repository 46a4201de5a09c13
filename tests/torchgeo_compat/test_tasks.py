"""TorchGeo's own tasks and command line on our data, tasks and checkpoints."""

import contextlib
import os
import subprocess
import sys
import warnings
from unittest.mock import patch

import pytest
import torch
import torchgeo.tasks
from torchgeo.main import main as command_line

from rscontrast.caching import cache
from rscontrast.datamodules import PairDataModule
from rscontrast.models import create_encoder, save_encoder
from rscontrast.stac import write_pairs
from rscontrast.stac.index import write_items
from rscontrast.tasks import SimCLR
from tests.sample_world import BANDS, CONTRACT, ROOT, event_pairs, scenes, trainer
from tests.xbd_world import write_xbd


def datamodule(**views):
    return PairDataModule(
        scenes(), event_pairs(), list(BANDS), patch_size=64, batch_size=4, length=4, views=views
    )


def test_their_simclr_trains_a_step_on_our_pairs(tmp_path):
    torch.manual_seed(0)
    task = torchgeo.tasks.SimCLR(
        model="resnet18", in_channels=4, version=1, layers=2, memory_bank_size=0, size=64, lr=0.1
    )
    before = task.backbone.conv1.weight.detach().clone()
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    run.fit(task, datamodule=datamodule(flatten=True))
    assert run.global_step == 1
    assert torch.isfinite(run.callback_metrics["train_loss"])
    assert not torch.equal(task.backbone.conv1.weight, before)


def test_our_simclr_takes_both_layouts(tmp_path):
    losses = []
    for flatten in (False, True):
        torch.manual_seed(0)
        task = SimCLR(model="tu-resnet10t", hidden_dim=16, output_dim=8)
        run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
        run.fit(task, datamodule=datamodule(flatten=flatten))
        losses.append(run.callback_metrics["train_loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def fitted_by_command(name, data, folder, *, alone=False):
    """What TorchGeo's command line saves, in this process (which has its imports) or alone."""
    given = {f"data.init_args.{key}": value for key, value in data.items()}
    given["trainer.default_root_dir"] = folder
    words = ["fit", "--config", str(ROOT / "tests" / "conf" / f"{name}.yaml")]
    words += [part for key, value in given.items() for part in (f"--{key}", str(value))]
    if alone:
        command = [sys.executable, "-m", "torchgeo", *words]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-3000:]
    else:
        # It sets options of GDAL for good, and its libraries warn of each other.
        with patch.dict(os.environ), warnings.catch_warnings(), contextlib.chdir(ROOT):
            warnings.simplefilter("ignore")
            command_line(words)
    (written,) = folder.rglob("*.ckpt")
    return torch.load(written, weights_only=True, map_location="cpu")


@pytest.mark.parametrize("name", ["byol", "densecl", "false", "moco", "pixpro", "simclr"])
def test_their_command_line_finds_our_classes(name, tmp_path):
    write_items(scenes(), tmp_path / "items.parquet")
    write_pairs(event_pairs(), tmp_path / "pairs.parquet")
    data = {"items": tmp_path / "items.parquet", "pairs": tmp_path / "pairs.parquet"}
    state = fitted_by_command(name, data, tmp_path, alone=name == "simclr")
    assert state["global_step"] == 1
    assert state["hyper_parameters"]["model"] == "tu-resnet10t"
    assert ("positive_threshold" in state["hyper_parameters"]) == (name == "false")


def test_their_command_line_trains_a_loss_that_remembers_samples(tmp_path):
    """Each of the 12 pairs of a cache has moved its own threshold, once in the epoch."""
    options = {"bands": BANDS, "patch_size": 32, "length": 12, "progress": False}
    stored = cache(scenes(), event_pairs(), tmp_path / "pairs.zarr", **options)
    state = fitted_by_command("glofnd", {"cache": stored}, tmp_path)
    assert state["global_step"] == 3
    assert (state["state_dict"]["criterion.thresholds"] - 0.99).abs().max() < 1e-6


def test_their_command_line_finds_our_fine_tuning(tmp_path):
    state = fitted_by_command("damage", {"root": write_xbd(tmp_path / "xbd")}, tmp_path)
    assert state["global_step"] == 2
    assert state["temperature"] != 1
    assert state["contract"]["bands"] == ["red", "green", "blue"]
    assert state["hyper_parameters"]["heads"] == "two"


def test_their_segmentation_starts_from_our_encoder(tmp_path):
    torch.manual_seed(0)
    encoder = create_encoder("resnet18", 4)
    path = tmp_path / "encoder.pt"
    save_encoder(path, encoder, "resnet18", CONTRACT)
    torch.manual_seed(1)  # so that equal weights can only come from the file
    task = torchgeo.tasks.SemanticSegmentation(
        model="unet", backbone="resnet18", weights=str(path), in_channels=4, num_classes=5
    )
    images = torch.randn(2, 4, 64, 64)
    encoder.eval()
    task.eval()
    with torch.inference_mode():
        ours, theirs = encoder(images), task.model.encoder(images)
        assert task(images).shape == (2, 5, 64, 64)
    assert len(ours) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _segmentation(name, path):
    return torchgeo.tasks.SemanticSegmentation(
        model="unet", backbone=name, weights=str(path), in_channels=4, num_classes=5
    )


def _change(model):
    def make(name, path):
        return torchgeo.tasks.ChangeDetection(
            model=model,
            backbone=name,
            weights=str(path),
            in_channels=4,
            task="multiclass",
            num_classes=5,
            loss="ce",
        )

    return make


class _Batches(torch.utils.data.Dataset):
    """Random patches, one date or two."""

    def __init__(self, dates):
        self.dates = dates

    def __len__(self):
        return 2

    def __getitem__(self, index):
        shape = (4, 64, 64) if self.dates == 1 else (self.dates, 4, 64, 64)
        mask = torch.randint(5, (64, 64) if self.dates == 1 else (1, 64, 64))
        return {"image": torch.randn(shape), "mask": mask}


@pytest.mark.parametrize(
    ("make", "dates"),
    [(_segmentation, 1), (_change("fcsiamdiff"), 2), (_change("fcsiamconc"), 2)],
    ids=["SemanticSegmentation", "FCSiamDiff", "FCSiamConc"],
)
def test_their_tasks_train_a_step_from_our_encoder(make, dates, tmp_path):
    torch.manual_seed(0)
    encoder = create_encoder("resnet18", 4)
    save_encoder(tmp_path / "encoder.pt", encoder, "resnet18", CONTRACT)
    torch.manual_seed(1)
    task = make("resnet18", tmp_path / "encoder.pt")
    ours, theirs = encoder.state_dict(), task.model.encoder.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    before = task.model.encoder.conv1.weight.detach().clone()
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    loaders = [torch.utils.data.DataLoader(_Batches(dates), batch_size=2) for _ in "tv"]
    run.fit(task, *loaders)
    assert run.global_step == 1
    assert torch.isfinite(run.callback_metrics["train_loss"])
    assert not torch.equal(task.model.encoder.conv1.weight, before)
    images = _Batches(dates)[0]["image"][None]
    assert task.eval()(images).shape == (1, 5, 64, 64)
