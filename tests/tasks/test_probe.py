"""The on-line probe says what labels are worth to a run, and leaves the run as it is."""

import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from rscontrast.errors import InputError
from rscontrast.stac import write_pairs
from rscontrast.stac.index import write_items
from rscontrast.tasks import OnlineProbe, SimCLR
from tests.sample_world import ROOT, event_pairs, scenes, trainer
from tests.tasks.labelled import Normalised, Shapes

TINY = {"model": "tu-resnet10t", "in_channels": 4, "hidden_dim": 32, "output_dim": 16}


class Records(list):
    """A list is a dataset to torch."""


def samples(count=8):
    generator = torch.Generator().manual_seed(0)
    place = torch.randn(count, 1, 4, 32, 32, generator=generator)
    images = place + 0.3 * torch.randn(count, 2, 4, 32, 32, generator=generator)
    return Records({"image": image} for image in images)


def run(folder, *callbacks, epochs=1, task=None, **arguments):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # what a user's augmentations may draw from
    task = task or SimCLR(**TINY)
    fitted = trainer(folder, max_epochs=epochs, callbacks=list(callbacks), **arguments)
    loader = DataLoader(samples(), batch_size=4, shuffle=True)
    fitted.fit(task, loader, DataLoader(samples(), batch_size=4))
    return task, {name: value.item() for name, value in fitted.callback_metrics.items()}


class Noting(Callback):
    """Notes how a run is after each epoch: modes, gradients, random numbers."""

    def __init__(self):
        self.seen = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.modes = [part.training for part in pl_module.modules()]
        gradients = [p.grad.clone() for p in pl_module.parameters() if p.grad is not None]
        drawn = torch.rand(3), random.random(), np.random.random()  # noqa: NPY002
        self.seen.append((gradients, drawn))


def test_a_run_with_the_probe_is_the_run_without(tmp_path):
    runs = []
    for probes in ([], [OnlineProbe(Shapes())]):
        noting = Noting()
        task, found = run(tmp_path, *probes, noting, epochs=2)
        runs.append((task.state_dict(), noting, found))
    (plain, before, metrics), (probed, after, more) = runs
    assert all(torch.equal(plain[key], probed[key]) for key in plain)
    assert before.modes == after.modes
    for (gradients, drawn), (others, also) in zip(before.seen, after.seen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
        assert torch.equal(drawn[0], also[0])
        assert drawn[1:] == also[1:]
    assert set(more) - set(metrics) == {"val_knn", "val_probe"}


def test_parts_that_were_in_evaluation_stay_so(tmp_path):
    task = SimCLR(**TINY)

    class Freezing(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            pl_module.model.eval()

    noting = Noting()
    run(tmp_path, Freezing(), OnlineProbe(Shapes()), noting, task=task)
    frozen = set(task.model.modules())
    wanted = [part not in frozen for part in task.modules()]
    assert set(wanted) == {True, False}  # some of each
    assert noting.modes == wanted


def test_classes_that_images_show_are_found_and_others_not(tmp_path):
    _, found = run(tmp_path, OnlineProbe(Shapes()))
    assert found["val_knn"] > 0.9
    assert found["val_probe"] > 0.9
    _, found = run(tmp_path, OnlineProbe(Shapes("shuffled")))
    assert found["val_knn"] < 0.75
    assert found["val_probe"] < 0.75


def test_images_are_normalised_as_their_datamodule_says(tmp_path):
    plain, normalised = (run(tmp_path, OnlineProbe(data()))[1] for data in (Shapes, Normalised))
    assert plain["val_knn"] == normalised["val_knn"]
    assert plain["val_probe"] == normalised["val_probe"]


def test_it_looks_every_so_many_epochs_and_at_the_last(tmp_path):
    class Counting(OnlineProbe):
        def _embedded(self, trainer, module, loader):
            seen.append(trainer.current_epoch)
            return super()._embedded(trainer, module, loader)

    seen = []
    run(tmp_path, Counting(Shapes(), every_n_epochs=2), epochs=3)
    assert sorted(set(seen)) == [1, 2]
    seen.clear()
    run(tmp_path, Counting(Shapes(), every_n_epochs=4), epochs=-1, max_steps=3)
    assert sorted(set(seen)) == [1]


def test_no_more_is_looked_at_than_was_said_and_nan_is_left_out(tmp_path):
    sizes = []

    class Looking(OnlineProbe):
        def _embedded(self, trainer, module, loader):
            found = super()._embedded(trainer, module, loader)
            sizes.append(len(found[0]))
            return found

    probe = Looking(Shapes(), most=20)
    run(tmp_path, probe)
    assert sizes == [20, 20]

    class Broken(SimCLR):
        def forward(self, images):
            found = super().forward(images)
            return found if self.training else found * math.nan

    _, found = run(tmp_path, Looking(Shapes()), task=Broken(**TINY))
    assert sizes[2:] == [0, 0]
    assert not {"val_knn", "val_probe"} & set(found)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(InputError, match="every_n_epochs: got 0"):
        OnlineProbe(Shapes(), every_n_epochs=0)
    with pytest.raises(InputError, match="temperature: got 0"):
        OnlineProbe(Shapes(), temperature=0)
    with pytest.raises(InputError, match=r"data: got \['image'\]; allowed: .*image and label"):
        run(tmp_path, OnlineProbe(Shapes("unlabelled")))


def test_it_works_from_yaml(tmp_path):
    write_items(scenes(), tmp_path / "items.parquet")
    write_pairs(event_pairs(), tmp_path / "pairs.parquet")
    config = yaml.safe_load((ROOT / "tests" / "conf" / "simclr.yaml").read_text())
    given = {"items": "items.parquet", "pairs": "pairs.parquet"}
    config["data"]["init_args"] |= {name: str(tmp_path / path) for name, path in given.items()}
    data = {"class_path": "tests.tasks.labelled.Shapes", "init_args": {"spread": 0.2}}
    probe = {"class_path": "rscontrast.tasks.OnlineProbe", "init_args": {"data": data, "k": 5}}
    saved = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}
    saved["init_args"] = {"monitor": "val_knn", "mode": "max", "filename": "{val_knn:.2f}"}
    config["trainer"] |= {"callbacks": [probe, saved], "default_root_dir": str(tmp_path)}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "torchgeo", "fit", "--config", str(tmp_path / "run.yaml")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    (written,) = tmp_path.rglob("*.ckpt")
    assert float(written.stem.removeprefix("val_knn=")) > 0.8
