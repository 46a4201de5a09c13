"""Terrain beside pairs: read under any patch at any time, warped with the views, in a training."""

import numpy as np
import pytest
import rasterio
import torch

from rscontrast.datamodules import PairDataModule
from rscontrast.datasets import STACDepth
from rscontrast.datasets.depth import depth_items
from rscontrast.errors import AssetError, BandError, InputError
from rscontrast.stac import search, write_items
from rscontrast.tasks import PixPro
from tests.sample_world import BANDS, CATALOG, event_pairs, scenes, trainer
from tests.world import grid, write_raster


def surfaces():
    return search(CATALOG, collections=["dsm"])


def href(name):
    (item,) = surfaces()[lambda frame: frame["id"] == f"dsm_{name}"].to_dict("records")
    return item["assets"]["dsm"]["href"]


def module(depth, **arguments):
    given = {"patch_size": 64, "batch_size": 2, "length": 2, "views": {"dihedral": False}}
    made = PairDataModule(
        scenes(), event_pairs(), list(BANDS), depth=depth, **{**given, **arguments}
    )
    made.setup("fit")
    return made


def under(path, sample):
    """The file's own pixels under a patch that lies on its grid."""
    with rasterio.open(path) as raster:
        column, row = ~raster.transform @ sample["transform"].numpy()[[2, 5]]
        window = rasterio.windows.Window(round(column), round(row), 64, 64)
        return raster.read(1, window=window, boundless=True, fill_value=np.nan, out_dtype="float32")


@pytest.mark.parametrize("kind", ["items", "table", "files"])
def test_it_is_what_the_file_holds_under_each_patch(kind, tmp_path):
    write_items(surfaces(), tmp_path / "dsm.parquet")
    depth = {
        "items": surfaces(),
        "table": str(tmp_path / "dsm.parquet"),
        "files": [href("east"), href("west")],
    }[kind]
    made = module(depth, depth_band="dsm")
    for draw in made.train_sampler:
        sample = made.train_dataset[draw]
        assert sample["image"].shape == (2, 4, 64, 64)  # it is no band
        found = sample["depth"].numpy()
        assert found.shape == (64, 64)
        truth = [under(href(name), sample) for name in ("east", "west")]
        assert any(np.allclose(found, one, equal_nan=True) for one in truth)
        assert np.isfinite(found).mean() > 0.5


def test_pairs_beyond_it_are_drawn_too():
    made = module(href("east"), length=64)
    known = [made.train_dataset[draw]["depth"].isfinite().any() for draw in made.train_sampler]
    assert 0 < sum(known) < len(known)


def test_it_goes_with_the_views():
    made = module(surfaces(), depth_band="dsm", view_size=32)
    made.trainer = None
    batch = next(iter(made.train_dataloader()))
    views = made.train_aug(batch)
    assert views["depth"].shape == (2, 2, 32, 32)
    low, high = np.nanmin(batch["depth"]), np.nanmax(batch["depth"])
    seen = views["depth"][views["depth"].isfinite()]
    assert seen.numel()
    assert seen.min() >= low
    assert seen.max() <= high


def test_nothing_is_known_beside_it():
    depth = STACDepth(surfaces(), band="dsm")
    elsewhere = grid("EPSG:32633", res=2.5, corner=(300_000.0, 5_000_000.0), shape=(8, 8))
    assert depth.onto(elsewhere, slice(None))["depth"].isnan().all()


def test_nodata_is_not_a_number(tmp_path):
    pixels = np.full((1, 8, 8), 7, np.float32)
    pixels[0, :, :3] = -9999
    where = grid(res=10.0, shape=(8, 8))
    write_raster(tmp_path / "d.tif", pixels, where, nodata=-9999)
    found = STACDepth(str(tmp_path / "d.tif")).onto(where, slice(None))["depth"]
    assert found[:, :3].isnan().all()
    assert (found[:, 3:] == 7).all()


def test_pixpro_trains_with_it(tmp_path):
    torch.manual_seed(0)
    task = PixPro(
        model="tu-resnet10t", hidden_dim=16, output_dim=8, terms={"depth": {"mode": "hard"}}
    )
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    run.fit(task, datamodule=module(surfaces(), depth_band="dsm"))
    assert run.callback_metrics["train_loss"].isfinite()
    assert any("depth" in name for name in run.callback_metrics)


def test_bad_terrain_is_refused(tmp_path):
    with pytest.raises(AssetError, match=r"nowhere.tif: not opened as a depth raster"):
        depth_items(str(tmp_path / "nowhere.tif"))
    with pytest.raises(BandError, match="height"):
        STACDepth(surfaces(), band="height")
    write_raster(tmp_path / "far.tif", np.ones((1, 8, 8), np.float32), grid(shape=(8, 8)))
    with pytest.raises(InputError, match="extras"):
        module(str(tmp_path / "far.tif"))
