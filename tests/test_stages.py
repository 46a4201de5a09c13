"""The stages that train: what they refuse, what they leave behind, what both ends agree on."""

import copy
import json
import shutil
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine

from rscontrast.datamodules import DamageDataModule, PairDataModule
from rscontrast.errors import BandError, CheckpointError, GridError, InputError
from rscontrast.mapping import evaluate, map_pairs
from rscontrast.models import load_encoder, save_encoder
from rscontrast.stac import pair_items
from rscontrast.stages import METHODS, finetune, label_classes, pretrain
from rscontrast.tasks import DamageSegmentation, SimCLR
from tests.sample_world import BANDS, event_pairs, scenes

TINY = {"epochs": 1, "patch_size": 32, "device": "cpu", "progress": False}
PRETRAIN = TINY | {"bands": BANDS, "encoder": "tu-resnet10t", "batch_size": 4, "length": 4}
FINETUNE = TINY | {"label": "damage", "batch_size": 4, "length": 4}
SCORE = {"patch_size": 32, "overlap": 0, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    out = tmp_path_factory.mktemp("encoder") / "encoder.pt"
    return pretrain(scenes(), event_pairs(), out, method="simclr", **PRETRAIN)


@pytest.fixture(scope="module")
def segmenter(encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("segmenter") / "segmenter.pt"
    return finetune(scenes(), event_pairs(), out, encoder=encoder, **FINETUNE)


def own_items():
    """Items whose assets may be changed: pandas copies a frame, not the dictionaries in it."""
    items = scenes()
    items["assets"] = [copy.deepcopy(assets) for assets in items["assets"]]
    return items


def moved_labels(folder, change):
    """Items whose label rasters are copies that ``change`` (array, profile) was applied to."""
    items = own_items()
    for name, assets in zip(items["id"], items["assets"], strict=True):
        if "damage" in assets:
            with rasterio.open(assets["damage"]["href"]) as source:
                pixels, profile = source.read(), source.profile
            profile["driver"] = "GTiff"
            pixels, profile = change(pixels, profile)
            path = folder / f"{name}.tif"
            with rasterio.open(path, "w", **profile) as copied:
                copied.write(pixels)
            assets["damage"]["href"] = str(path)
    return items


def test_what_a_pretraining_leaves(encoder):
    found = load_encoder(encoder, BANDS)
    assert found.contract.res == pytest.approx(2.5, rel=1e-6)
    record = json.loads(encoder.with_suffix(".json").read_text())
    assert record["steps"] == 1
    assert record["hyperparameters"]["model"] == "tu-resnet10t"
    told = record["statistics"]
    assert tuple(told["mean"]) == found.contract.mean
    assert tuple(told["std"]) == found.contract.std
    assert sorted(told["percentiles"]) == ["2", "50", "98"]
    assert (told["patches"], told["seed"]) == (64, 0)
    assert 0 < told["pixels"] <= 64 * 2 * 32 * 32
    assert sorted(p.name for p in encoder.parent.iterdir()) == [
        "encoder.item.json",
        "encoder.json",
        "encoder.pt",
    ]


def test_a_seed_repeats_the_run(encoder, tmp_path):
    again = pretrain(scenes(), event_pairs(), tmp_path / "e.pt", method="simclr", **PRETRAIN)
    other = pretrain(
        scenes(), event_pairs(), tmp_path / "o.pt", method="simclr", seed=1, **PRETRAIN
    )
    one, two, three = (load_encoder(p).module.state_dict() for p in (encoder, again, other))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], three[key]) for key in one)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"device": "tpu"}, "device: got 'tpu'.*auto, cpu, gpu"),
        ({"patch_size": 0}, "patch_size: got 0"),
        ({"batch_size": 1}, "batch_size: got 1; allowed: 2 or more"),
        ({"length": 3}, "length: got 3; allowed: a whole number, 4 or more"),
        ({"view_size": -5}, "view_size: got -5"),
        ({"views": {"blurr": 1}}, "views: got .*blurr"),
        ({"method_args": {"tau": 1}}, "method_args: got .*tau"),
        ({"seed": -1}, "seed: got -1"),
        ({"tolerance": "soon"}, "tolerance: got 'soon'"),
        ({"patch_size": 4096}, "size: .*patches that fit"),
    ],
)
def test_pretrain_refuses(more, words, tmp_path):
    with pytest.raises(InputError, match=words):
        pretrain(scenes(), event_pairs(), tmp_path / "e.pt", method="simclr", **(PRETRAIN | more))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_gpu_is_refused_where_there_is_none(segmenter, tmp_path):
    with pytest.raises(InputError, match=r"device: got 'gpu'.*torch sees no GPU"):
        map_pairs(scenes(), event_pairs(), segmenter, tmp_path, device="gpu", progress=False)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"length": 3}, "length: got 3"),
        ({"patch_size": 50}, "patch_size: got 50; allowed: a multiple of 32"),
        ({"class_names": []}, "class_names"),
        ({"class_names": ["a", "b"]}, r"class_names\): got 2; allowed: 5 or more"),
    ],
)
def test_finetune_refuses(more, words, encoder, tmp_path):
    with pytest.raises(InputError, match=words):
        finetune(scenes(), event_pairs(), tmp_path / "s.pt", encoder=encoder, **(FINETUNE | more))
    assert not list(tmp_path.iterdir())


def test_weights_of_another_encoder_are_refused(encoder, tmp_path):
    more = PRETRAIN | {"encoder": "resnet18", "weights": encoder}
    with pytest.raises(InputError, match=r"encoder: got 'resnet18'.*tu-resnet10t"):
        pretrain(scenes(), event_pairs(), tmp_path / "e.pt", **more)
    with pytest.raises(BandError, match="bands"):
        pretrain(
            scenes(), event_pairs(), tmp_path / "e.pt", **(PRETRAIN | {"bands": ["nir"]}),
            weights=encoder,
        )  # fmt: skip


def test_classes_come_from_the_items():
    names = ["background", "no-damage", "minor-damage", "major-damage", "destroyed"]
    assert label_classes(scenes(), "damage") == names


def off_the_grid(pixels, profile):
    return pixels, profile | {"transform": Affine.translation(5e5, 0) @ profile["transform"]}


def test_a_label_off_the_grid_is_refused_by_training_and_scoring(encoder, segmenter, tmp_path):
    items = moved_labels(tmp_path, off_the_grid)
    with pytest.raises(GridError, match="label damage: off the imagery's grid"):
        finetune(items, event_pairs(), tmp_path / "s.pt", encoder=encoder, **FINETUNE)
    with pytest.raises(GridError, match="label damage: off the imagery's grid"):
        evaluate(items, event_pairs(), segmenter, "damage", **SCORE)


def test_a_pair_without_a_usable_label_is_not_scored(segmenter, tmp_path):
    items = moved_labels(tmp_path, lambda pixels, profile: (np.full_like(pixels, 255), profile))
    with pytest.raises(InputError, match="label: got 'damage'; allowed: labels on usable pixels"):
        evaluate(items, event_pairs(), segmenter, "damage", **SCORE)


def test_the_latest_label_counts_in_training_and_scoring(segmenter, tmp_path):
    """An earlier label of zeros beside the real one changes neither."""
    items = own_items().set_index("id", drop=False)
    zeros = moved_labels(tmp_path, lambda pixels, profile: (0 * pixels, profile))
    zeros = zeros.set_index("id")["assets"]
    plain = own_items()
    for name in [name for name in items.index if "20220807" in name]:
        asset = copy.deepcopy(zeros[name.replace("20220807", "20220824")]["damage"])
        items.loc[name, "assets"]["damage"] = asset

    def counts(frame):
        module = DamageDataModule(
            frame.reset_index(drop=True), event_pairs(), list(BANDS), "damage", 5,
            patch_size=32, batch_size=1, length=1,
        )  # fmt: skip
        module.setup("fit")
        return module.train_sampler.sampler.patches.counts

    # Where the later label has no data the earlier one fills in, so background may grow.
    assert np.array_equal(counts(items)[:, 1:], counts(plain)[:, 1:])
    a, b = (
        evaluate(f.reset_index(drop=True), event_pairs(), segmenter, "damage", **SCORE)["all"]
        for f in (items, plain)
    )
    assert np.array_equal(a.confusion[1:], b.confusion[1:])


def test_every_date_of_a_place_is_trained_on():
    pairs = pair_items(scenes(), min_gap=10, max_cloud=50).frame()
    holds = (pairs["pre_datetime"] <= "2022-08-25") & (pairs["post_datetime"] >= "2022-08-24")
    module = DamageDataModule(
        scenes(), pairs, list(BANDS), "damage", 5, patch_size=64, batch_size=1, length=1
    )
    module.setup("fit")
    drawn = {
        (pre.start, post.start) for _, _, (pre, post) in module.train_sampler.sampler.patches.slices
    }
    dates = {(row.pre_datetime, row.post_datetime) for row in pairs[holds].itertuples()}
    near = {(a.round("1h"), b.round("1h")) for a, b in drawn}
    assert near == {(a.round("1h"), b.round("1h")) for a, b in dates}


def test_imagery_of_other_pixels_is_refused(encoder, segmenter, tmp_path):
    data = torch.load(segmenter, weights_only=True)
    data["contract"]["res"] = 10.0
    other = tmp_path / "other.pt"
    torch.save(data, other)
    with pytest.raises(GridError, match=r"pixels of 2\.5 m, the segmenter learned from 10 m"):
        map_pairs(scenes(), event_pairs(), other, tmp_path / "maps", progress=False)


def test_a_second_run_keeps_what_the_first_listed(segmenter, tmp_path):
    pairs = event_pairs()
    for one in (pairs.iloc[:1], pairs.iloc[1:], pairs.iloc[:1]):
        catalog = map_pairs(scenes(), one, segmenter, tmp_path, **SCORE)
    links = [link["rel"] for link in json.loads(Path(catalog).read_text())["links"]]
    assert links.count("item") == 2


def test_lightnings_checkpoint_is_an_encoder_too(tmp_path):
    data = PairDataModule(
        scenes(), event_pairs(), list(BANDS), patch_size=32, batch_size=4, length=4
    )
    task = SimCLR(model="tu-resnet10t", in_channels=4)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=1, logger=False, default_root_dir=tmp_path,
        limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    (path,) = tmp_path.rglob("*.ckpt")
    found = load_encoder(path, BANDS)
    state = task.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in found.module.state_dict().items())
    shutil.copy(path, tmp_path / "copy.ckpt")
    save_encoder(tmp_path / "plain.pt", found.module, found.name, found.contract)
    assert load_encoder(tmp_path / "plain.pt").contract == data.contract


OTHERS = {
    "epochs": 3, "accumulate": 1, "batch_size": 2, "patch_size": 64, "by": "place",
    "views": {"preset": "simclr"}, "bands": BANDS[::-1], "precision": "bf16-mixed",
}  # fmt: skip
METHOD_ARGS = {"moco": {"queue_size": 16}, "byol": {"hidden_dim": 16, "warmup": 1}}


@pytest.mark.parametrize("method", METHOD_ARGS)
def test_a_run_that_was_cut_goes_on_to_the_very_weights(method, tmp_path, monkeypatch):
    """After the first of two epochs, from what stands beside the partial encoder."""
    given = PRETRAIN | {"epochs": 2, "length": 8, "accumulate": 2, "method": method}
    given |= {"method_args": METHOD_ARGS[method]}
    whole = pretrain(scenes(), event_pairs(), tmp_path / "whole.pt", **given)
    task, cut = METHODS[method], tmp_path / "cut.pt"

    def stop(self):
        if self.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(task, "on_train_epoch_start", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(scenes(), event_pairs(), cut, **given)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [
        "cut.partial.pt",
        "cut.resume.ckpt",
        "whole.item.json",
        "whole.json",
        "whole.pt",
    ]
    state = tmp_path / "cut.resume.ckpt"
    with pytest.raises(InputError, match=r"resume: got .*the same lr.* it had"):
        pretrain(scenes(), event_pairs(), cut, resume=state, **(given | {"lr": 0.5}))
    for name, other in OTHERS.items() if method == "moco" else ():
        with pytest.raises(InputError, match=rf"resume: got .*the same .*{name}"):
            pretrain(scenes(), event_pairs(), cut, resume=state, **(given | {name: other}))
    pretrain(scenes(), event_pairs(), cut, resume=state, **given)
    one, two = (load_encoder(path).module.state_dict() for path in (whole, cut))
    assert all(torch.equal(one[key], two[key]) for key in one)
    record = json.loads(cut.with_suffix(".json").read_text())
    assert record["steps"] == 2
    assert not list(tmp_path.glob("*.ckpt"))
    with pytest.raises(CheckpointError, match="no state of a run"):
        pretrain(scenes(), event_pairs(), tmp_path / "other.pt", resume=cut, **given)


def test_a_finetuning_leaves_nothing_that_cannot_be_gone_on_with(encoder, tmp_path, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    # Callbacks come before the task.
    monkeypatch.setattr(DamageSegmentation, "on_train_epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(scenes(), event_pairs(), tmp_path / "s.pt", encoder=encoder, **FINETUNE)
    assert [path.name for path in tmp_path.iterdir()] == ["s.partial.pt"]


@pytest.mark.parametrize("select", ["global", "nearest", "above"])
def test_false_trains_under_each_rule(select, tmp_path):
    chosen = {"select": select, "positive_threshold": -1.0}
    out = pretrain(
        scenes(), event_pairs(), tmp_path / "e.pt", method="false", method_args=chosen, **PRETRAIN
    )
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["hyperparameters"]["select"] == select
    share = record["last"]["train_false_negative_share"]
    # Every anchor is trusted. Of the 2N = 8 rows "global" sets one, "nearest" each, "above" those
    # with a negative that is more similar than the positive.
    allowed = {"global": [1 / 8], "nearest": [1.0], "above": [n / 8 for n in range(1, 9)]}
    assert share in allowed[select]
