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
    words = r"split_block: got 0\.03; allowed: smaller blocks, .*left for"
    with pytest.raises(InputError, match=words):
        ready(splits=(0.4, 0.3, 0.3), split_block=0.03)
    with pytest.raises(InputError, match=r"split_block: got 1\.0; allowed: smaller blocks"):
        ready(splits=(0.5, 0.5, 0))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"splits": (0.4, 0.3, 0.1)}, "splits: got .*sum up to 1"),
        ({"splits": (1,)}, "splits: got .*train, val and test"),
        ({"splits": (0.5, 0.5)}, "splits: got .*train, val and test"),
        ({"splits": (0, 1, 0)}, "splits: got .*the first above 0"),
        ({"splits": (1.2, -0.2, 0)}, "splits: got"),
        ({"split_block": 0}, "split_block: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"num_workers": -1}, "num_workers: got -1"),
        ({"threads": 0}, "threads: got 0"),
        ({"num_workers": 1, "threads": 2}, "threads: got 2; allowed: None with num_workers"),
        ({"prefetch": 0}, "prefetch: got 0"),
    ],
)
def test_what_cannot_be_is_refused_at_once(more, words):
    with pytest.raises(InputError, match=words):
        module(**more)


def test_each_of_two_ranks_has_a_batch_or_it_is_told():
    made = ready(length=4, splits=(0.5, 0.5, 0), split_block=0.03, statistics_patches=1)
    whole_val = list(made.val_sampler)
    halves = [EpochSampler(made.val_sampler.sampler, rank=rank, world=2) for rank in (0, 1)]
    seen = []
    for half in halves:
        made.val_sampler = half
        seen += [len(batch["image"]) for batch in made.val_dataloader()]
        half.set_epoch(0)
    assert seen == [2, 2]
    assert sorted(map(str, [*halves[0], *halves[1]])) == sorted(map(str, whole_val))
    made.train_sampler = EpochSampler(made.train_sampler.sampler, rank=0, world=2)
    with pytest.raises(InputError, match=r"length: got 4; allowed: 8 or more: .*a rank"):
        made.train_dataloader()


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


def test_sizes_are_the_caches_by_default(stored):
    made = PairDataModule(cache=str(stored), batch_size=4)
    made.setup("fit")
    assert (made.patch_size, made.view_size, made.length) == (32, 32, 12)
    assert sorted(made.train_sampler) == list(range(12))
    assert (module().patch_size, module(patch_size=None, length=None).length) == (32, 1024)


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"length": 13}, InputError, "length: got 13; allowed: up to 12"),
        ({"patch_size": 96}, InputError, "patch_size: got 96; allowed: 32"),
        ({"items": "nowhere.parquet"}, InputError, "items: got 'nowhere.*not given with a cache"),
        ({"items": scenes()}, InputError, "items: got 'GeoDataFrame'.*not given with a cache"),
        ({"pairs": "nowhere.parquet"}, InputError, "pairs: .*not given with a cache"),
        ({"tolerance": "1d"}, InputError, "tolerance: .*not given with a cache"),
        ({"split_block": 0.1}, InputError, "split_block: .*not given with a cache"),
        ({"statistics_patches": 9}, InputError, "statistics_patches: .*not given with a cache"),
        ({"min_valid": 0.5}, InputError, "min_valid: .*not given with a cache"),
        ({"splits": (0.5, 0.5, 0.0)}, InputError, "splits: .*not given with a cache"),
        ({"register": 2.0}, InputError, "register: .*not given with a cache"),
        ({"length": None, "batch_size": 13}, InputError, "batch_size: got 13; allowed: up to 12"),
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
    own = {name: value for name, value in tiny.items() if name not in ("patch_size", "length")}
    out = pretrain(None, None, tmp_path / "c.pt", cache=stored, **own)
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["statistics"]["patches"] == 12
    assert record["steps"] == 3
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
    told = torch.load(path, weights_only=True)["PairDataModule"]
    assert sorted(told["statistics"]["percentiles"]) == ["2", "50", "98"]


@pytest.mark.parametrize("other", [{"seed": 1}, {"length": 32}])
def test_a_run_of_other_draws_is_not_resumed(other):
    made = ready(statistics_patches=1)
    next(iter(made.train_dataloader()))
    with pytest.raises(InputError, match=next(iter(other))):
        ready(statistics_patches=1, **other).load_state_dict(made.state_dict())
    with pytest.raises(InputError, match="state: got"):
        made.load_state_dict({"sample": 1})


def test_patches_that_were_read_for_a_draw_are_counted(tmp_path):
    task = Noting(model="tu-resnet10t", hidden_dim=16, output_dim=8)
    data = module(min_valid=0.95, tries=4, by="place", length=16, statistics_patches=1)
    trainer(tmp_path, max_epochs=1).fit(task, datamodule=data)
    again = ready(min_valid=0.95, tries=4, by="place", length=16, statistics_patches=1)
    tries = torch.cat([batch["tries"] for batch in again.train_dataloader()])
    assert tries.sum() > 16
    assert data.redraws == {"drawn": 16, "read": int(tries.sum())}
    again.load_state_dict(data.state_dict())
    assert again.redraws == data.redraws


@pytest.mark.slow
def test_ranks_keep_our_sampler_and_share_the_draws(tmp_path):
    command = [sys.executable, "-m", "tests.datamodules.ranks", str(tmp_path)]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=ROOT, env=threads, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-3000:]
    told = [
        json.loads((tmp_path / f"{name}{rank}.json").read_text())
        for name in ("whole", "rest")
        for rank in (0, 1)
    ]
    one, two, *rest = ([draw for batch in batches for draw in batch] for batches in told)
    every = [draw for batch in fitted(tmp_path, max_epochs=1) for draw in batch]
    assert [one, two] == [every[0::2], every[1::2]]
    # Of four batches of two, the first was saved as done.
    assert rest == [one[2:], two[2:]]


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


class Watching(pl.LightningModule):
    """Keeps the views of validation, a list of batches for each pass."""

    def __init__(self):
        super().__init__()
        self.scale, self.passes = torch.nn.Parameter(torch.ones(())), []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def training_step(self, batch, batch_idx):
        self.passes.append([])
        return self.scale * batch["image"].mean()

    def on_validation_epoch_start(self):
        self.passes.append([])

    def validation_step(self, batch, batch_idx):
        self.passes[-1].append(batch["image"])


def test_views_of_validation_are_the_same_in_each_pass(tmp_path):
    made, task = module(splits=(0.5, 0.5, 0), split_block=0.03), Watching()
    run = trainer(tmp_path, max_epochs=2, limit_val_batches=2, num_sanity_val_steps=1)
    run.fit(task, made)
    run.validate(task, made, verbose=False)
    run.validate(task, made, verbose=False)
    sanity, *passes = [batches for batches in task.passes if batches]
    assert len(passes) == 4
    assert len(passes[0]) == 2
    assert torch.equal(sanity[0], passes[0][0])
    for other in passes[1:]:
        assert all(torch.equal(*pair) for pair in zip(other, passes[0], strict=True))


def test_views_that_are_no_arguments_are_refused():
    with pytest.raises(InputError, match=r"^views: got 'simclr'; allowed: "):
        module(views="simclr")
