"""PairDataModule: splits without common ground, statistics, ranks, resumption, a cache."""

import json
import os
import subprocess
import sys

import lightning.pytorch as pl
import numpy as np
import pytest
import shapely
import torch

from rscontrast.caching import cache
from rscontrast.datamodules import DamageDataModule, PairDataModule
from rscontrast.errors import AssetError, BandError, InputError
from rscontrast.loader import PairLoader
from rscontrast.samplers import BlockAlignedPairSampler, EpochSampler
from rscontrast.stac import pair_items
from rscontrast.stages import pretrain
from tests.datamodules.ranks import Noting, module
from tests.sample_world import BANDS, ROOT, event_pairs, scenes, trainer


def ready(**arguments):
    made = module(**arguments)
    made.setup("fit")
    return made


def ground(dataset, sampler):
    """Patches in longitude and latitude of all draws."""
    import geopandas as gpd

    boxes = [shapely.box(x.start, y.start, x.stop, y.stop) for x, y, _ in sampler]
    return gpd.GeoSeries(boxes, crs=dataset.crs).to_crs("EPSG:4326")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    out = tmp_path_factory.mktemp("cache") / "pairs.zarr"
    options = {"bands": BANDS, "patch_size": 32, "length": 12, "progress": False}
    return cache(scenes(), event_pairs(), out, **options)


def test_no_ground_of_one_split_is_in_another():
    made = ready(splits=(0.5, 0.5, 0), split_block=0.03)
    train, val = (
        ground(getattr(made, f"{s}_dataset"), getattr(made, f"{s}_sampler"))
        for s in ("train", "val")
    )
    assert len(train) == len(val) == 8
    assert not train.union_all().intersects(val.union_all())
    items = [set(getattr(made, f"{s}_dataset").dataset.items["id"]) for s in ("train", "val")]
    assert items[0]
    assert items[1]
    assert not items[0] & items[1]


def test_all_is_trained_on_by_default():
    made = ready()
    assert made.val_dataloader() == []
    assert len(set(made.train_dataset.dataset.items["id"].str[:4])) == 2
    with pytest.raises(InputError, match=r"splits: got .*a share above 0 for test"):
        made.test_dataloader()


def test_a_split_without_a_pair_is_refused():
    with pytest.raises(InputError, match=r"nothing is left for|none is left for"):
        ready(splits=(0.4, 0.3, 0.3), split_block=0.03)
    with pytest.raises(InputError, match="fractions"):
        ready(splits=(0.4, 0.3, 0.1), split_block=0.03)


def test_validation_sees_the_same_patches_each_time():
    made = ready(splits=(0.5, 0.5, 0), split_block=0.03)
    train, val = made.train_dataloader(), made.val_dataloader()
    assert isinstance(val, PairLoader)
    epochs = {}
    for name, loader in (("train", train), ("val", val)):
        seen = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            seen.append(torch.cat([batch["bounds"] for batch in loader]))
        epochs[name] = seen
    assert torch.equal(*epochs["val"])
    assert not torch.equal(*epochs["train"])


def test_the_test_loader_is_real():
    made = ready(splits=(0.5, 0, 0.5), split_block=0.03)
    (one, two) = made.test_dataloader()
    assert one["image"].shape == two["image"].shape == (4, 2, 4, 32, 32)


def test_statistics_are_those_of_the_patches_that_were_looked_at():
    made = ready(statistics_patches=5, seed=3)
    told = made.statistics
    assert told["patches"] == 5
    assert told["seed"] == 3
    assert tuple(told["mean"]) == made.contract.mean
    assert tuple(told["std"]) == made.contract.std
    low, middle, high = (told["percentiles"][p] for p in ("2", "50", "98"))
    assert all(a < b < c for a, b, c in zip(low, middle, high, strict=True))
    assert ready(statistics_patches=5, seed=3, threads=1).statistics == told
    assert ready(statistics_patches=5, seed=4).statistics != told


def test_the_number_of_statistics_patches_does_not_change_the_draws():
    one, two = (list(ready(statistics_patches=n).train_sampler) for n in (2, 9))
    assert one == two


@pytest.mark.parametrize(
    "more", [{"threads": 1}, {"threads": 5, "prefetch": 1}, {"num_workers": 1}]
)
def test_batches_do_not_depend_on_who_reads(more):
    def epoch(**arguments):
        return [
            batch["image"] for batch in ready(statistics_patches=1, **arguments).train_dataloader()
        ]

    for one, two in zip(epoch(), epoch(**more), strict=True):
        assert torch.equal(one, two)


def test_min_valid_is_met_or_all_tries_are_used():
    made = ready(min_valid=0.95, tries=4, by="place", length=16)
    found = list(made.train_dataloader())
    share, tries = (torch.cat([b[k] for b in found]) for k in ("valid_share", "tries"))
    assert ((share >= 0.95) | (tries == 4)).all()
    seen = torch.cat([b["valid"] for b in found]).all(dim=1).float().mean(dim=(1, 2))
    torch.testing.assert_close(seen, share)


def test_blocks_and_weights_reach_the_sampler():
    blocks = ready(per_block=4, patch_size=16)
    assert isinstance(blocks.train_sampler, EpochSampler)
    assert isinstance(blocks.train_sampler.sampler, BlockAlignedPairSampler)
    assert blocks.train_sampler.sampler.per_block == 4
    with pytest.raises(InputError, match=r"min_valid: got 0\.5; allowed: None with per_block"):
        module(per_block=4, min_valid=0.5)
    with pytest.raises(InputError, match="weights: got 'nonsense'"):
        ready(weights="nonsense")
    with pytest.raises(InputError, match="by: got 'area2'"):
        module(by="area2")
    with pytest.raises(InputError, match="provider: got 'nobody'"):
        ready(provider="nobody")
    assert "shift" in next(iter(ready(register=3.0).train_dataloader()))


def test_tables_or_a_cache_are_needed():
    with pytest.raises(InputError, match="pairs: got None; allowed: pairs, since no cache"):
        PairDataModule(scenes(), bands=list(BANDS))


def test_a_cache_stands_in_for_the_tables(stored):
    made = PairDataModule(cache=str(stored), patch_size=32, batch_size=4, length=8)
    made.setup("fit")
    assert made.bands == BANDS
    assert made.statistics["patches"] == 12
    numbers = list(made.train_sampler)
    assert len(set(numbers)) == 8
    assert numbers != list(made.train_sampler)  # the next epoch
    made.train_sampler.set_epoch(0)
    found = torch.cat([batch["image"] for batch in made.train_dataloader()])
    assert all(
        torch.equal(image, made.cached[number]["image"])
        for image, number in zip(found, numbers, strict=True)
    )


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"length": 13}, InputError, "length: got 13; allowed: up to 12"),
        ({"patch_size": 96}, InputError, "patch_size: got 96; allowed: 32"),
        ({"min_valid": 0.5}, InputError, "no rules of the draw"),
        ({"splits": (0.5, 0.5, 0.0)}, InputError, "no rules of the draw"),
        ({"register": 2.0}, InputError, "no rules of the draw"),
        ({"bands": ["nir"]}, BandError, "bands"),
        ({"cache": "nowhere"}, AssetError, "nowhere"),
    ],
)
def test_what_does_not_fit_a_cache_is_refused(more, error, words, stored):
    arguments = {"cache": str(stored), "patch_size": 32, "batch_size": 4, "length": 8} | more
    with pytest.raises(error, match=words):
        PairDataModule(**arguments).setup("fit")


def test_pretraining_from_a_cache_and_with_validation(stored, tmp_path):
    tiny = {"encoder": "tu-resnet10t", "epochs": 1, "patch_size": 32, "batch_size": 4, "length": 4}
    tiny |= {"method": "simclr", "device": "cpu", "progress": False}
    out = pretrain(None, None, tmp_path / "c.pt", cache=stored, **tiny)
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["statistics"]["patches"] == 12
    assert "val_loss" not in record["last"]
    more = {"bands": BANDS, "splits": (0.5, 0.5, 0), "split_block": 0.03}
    out = pretrain(scenes(), event_pairs(), tmp_path / "v.pt", **more, **tiny)
    record = json.loads(out.with_suffix(".json").read_text())
    assert np.isfinite(record["last"]["val_loss"])
    assert sorted(record["statistics"]) == [
        "mean", "patches", "percentiles", "pixels", "seed", "std",
    ]  # fmt: skip


class Cut(pl.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path)


def fitted(folder, *, path=None, **arguments):
    task = Noting(model="tu-resnet10t", hidden_dim=16, output_dim=8)
    data = module(length=16, statistics_patches=1)
    trainer(folder, **({"max_epochs": 2} | arguments)).fit(task, datamodule=data, ckpt_path=path)
    return task.seen


def test_a_run_cut_in_mid_epoch_resumes_with_the_next_batch(tmp_path):
    unbroken = fitted(tmp_path)
    assert len(unbroken) == 8
    path = tmp_path / "cut.ckpt"
    cut = fitted(tmp_path, callbacks=[Cut(path)], max_steps=3)
    resumed = fitted(tmp_path, path=path)
    assert cut == unbroken[:3]
    assert resumed == unbroken[3:]


@pytest.mark.slow
def test_ranks_keep_our_sampler_and_share_the_draws(tmp_path):
    command = [sys.executable, "-m", "tests.datamodules.ranks", str(tmp_path)]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=ROOT, env=threads, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-3000:]
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    every = [draw for batch in fitted(tmp_path, max_epochs=1) for draw in batch]
    assert [draw for batch in one for draw in batch] == every[0::2]
    assert [draw for batch in two for draw in batch] == every[1::2]


def test_labelled_patches_are_read_by_threads_too():
    pairs = pair_items(scenes(), min_gap=10, max_cloud=50).frame()
    made = DamageDataModule(
        scenes(), pairs, list(BANDS), "damage", 5, patch_size=32, batch_size=2, length=4
    )
    made.setup("fit")
    loader = made.train_dataloader()
    assert type(loader) is PairLoader
    assert type(loader.sampler) is EpochSampler
    assert loader.dataset.thread_safe
    assert [batch["mask"].shape for batch in loader] == [(2, 32, 32)] * 2
    assert made.statistics["patches"] > 0
