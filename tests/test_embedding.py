"""Embeddings lie where their patches do, by the stage and by Lightning's predict."""

import os
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from pyproj import Transformer

from rscontrast import embed
from rscontrast.datamodules import PairDataModule
from rscontrast.datamodules.patches import outline
from rscontrast.embedding import EmbeddingWriter, embedding_frame
from rscontrast.errors import BandError, EmptySearchError, InputError
from rscontrast.io.geoparquet import write_frames
from rscontrast.models import create_encoder, save_encoder
from rscontrast.stac import pair_items, search, write_pairs
from rscontrast.stac.index import write_items
from rscontrast.tasks import SimCLR
from rscontrast.tasks.predicted import embed_batch
from tests.sample_world import BANDS, CONTRACT, ROOT, event_pairs, scenes, trainer
from tests.world import CORNER, World, grid

DATES = ("2022-01-01T10:00:00", "2022-02-01T10:00:00", "2022-03-01T10:00:00")
ZONES = {"west": ("EPSG:32632", CORNER), "east": ("EPSG:32633", (268_000.0, 5_100_000.0))}


class Middle(SimCLR):
    """Embeds a patch by what it shows: here its own place."""

    def forward(self, images):
        return images.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Items of two zones whose pixels hold their own coordinates, and their pairs."""
    made = World(tmp_path_factory.mktemp("world"))
    for name, (crs, corner) in ZONES.items():
        for number, when in enumerate(DATES):
            made.item(f"{name}{number}", grid(crs, corner=corner), when=when)
    items = search(made.catalog())
    return items, pair_items(items, min_gap=1).frame()


def predicted(folder, items, pairs, **arguments):
    given = {"patch_size": 16, "batch_size": 3, "length": 4, "statistics_patches": 4}
    data = PairDataModule(items, pairs, ["x", "y"], **(given | arguments))
    out = folder / "embeddings.parquet"
    killed = folder / ".embeddings.rank0.parquet"  # of a run before
    killed.write_bytes(b"cut")
    run = trainer(folder, callbacks=[EmbeddingWriter(str(out))])
    run.predict(Middle(model="tu-resnet10t", in_channels=2), datamodule=data)
    assert [path.name for path in folder.iterdir()] == ["embeddings.parquet"]
    return data, gpd.read_parquet(out)


def test_each_row_lies_where_its_pixels_say(world, tmp_path):
    data, found = predicted(tmp_path, *world)
    assert found.crs.to_epsg() == 4326
    shown = np.stack(found["embedding"]) * data.contract.std + data.contract.mean
    xy = shown + np.array(CORNER)
    for name, (crs, _) in ZONES.items():
        # The zones meet at 12 degrees east.
        zone = (found.geometry.bounds["minx"] < 12) == (name == "west")
        # Of a place that is turned in the dataset's CRS the patches at the edge reach beyond it.
        here = (zone & (found["valid_share"] == 1)).to_numpy()
        rows = found[here]
        assert len(rows) == 60 if name == "west" else len(rows) >= 36  # 3 dates, 4 x 5 patches
        lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(*xy[here].T)
        back = Transformer.from_crs(4326, crs, always_xy=True)
        for shape, x, y, (east, north) in zip(rows.geometry, lon, lat, xy[here], strict=True):
            corners = np.column_stack(back.transform(*np.array(shape.exterior.coords).T))
            assert shape.contains(gpd.points_from_xy([x], [y])[0])
            low, high = corners.min(0), corners.max(0)
            assert (low + high) / 2 == pytest.approx((east, north), abs=0.5)
            assert high - low == pytest.approx((160, 160), abs=0.01)


def test_one_row_a_patch_and_date_in_a_fixed_order(world, tmp_path):
    _, found = predicted(tmp_path, *world)
    keys = list(zip(found.geometry.to_wkb(), found["date"], strict=True))
    assert len(set(keys)) == len(keys)
    assert set(found["date"]) == {pd.Timestamp(when, tz="UTC") for when in DATES}
    assert found.groupby(found.geometry.to_wkb())["date"].nunique().eq(3).all()
    (tmp_path / "embeddings.parquet").unlink()
    _, again = predicted(tmp_path, *world, seed=7, batch_size=50, length=50)
    assert list(zip(again.geometry.to_wkb(), again["date"], strict=True)) == keys
    schema = pq.read_schema(tmp_path / "embeddings.parquet")
    assert str(schema.field("embedding").type.value_type) == "float"
    assert schema.field("date").type.tz == "UTC"


def test_predictions_are_normalised_as_the_training_was(world):
    items, pairs = world
    data = PairDataModule(items, pairs, ["x", "y"], patch_size=16, batch_size=2, length=4)
    data.setup("predict")
    state = {"statistics": {"mean": [1.0, 2.0], "std": [3.0, 4.0]}, "sampler": {}, "views": 0}
    data.load_state_dict(state)
    batch = next(iter(data.predict_dataloader()))
    made = data.predict_aug(batch)
    mean, std = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    wanted = (batch["image"] - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(made["image"], wanted)


def encoder(folder, bands=BANDS):
    torch.manual_seed(0)
    path = folder / "encoder.pt"
    save_encoder(path, create_encoder("tu-resnet10t", len(bands)), "tu-resnet10t", CONTRACT)
    return path


def covers_the_ground(found, pairs):
    """No patch lies off the ground of the pairs, and slits of it alone are left out."""
    ground = pairs.union_all()
    assert ground.difference(found.union_all()).area < 0.03 * ground.area
    assert found.intersects(ground).all()


def test_the_stage_gives_what_the_encoder_gives(tmp_path):
    path = encoder(tmp_path)
    options = {"encoder": path, "patch_size": 64, "progress": False}
    out = embed(scenes(), event_pairs(), tmp_path / "out" / "table.parquet", **options)
    found = gpd.read_parquet(out)
    assert set(found.columns) == {"embedding", "date", "valid_share", "geometry"}
    assert found["embedding"][0].dtype == np.float32
    assert all(len(row) == 512 for row in found["embedding"])
    assert np.isfinite(np.stack(found["embedding"])).all()
    dates = event_pairs()[["pre_datetime", "post_datetime"]].to_numpy().ravel()
    assert set(found["date"].dt.tz_localize(None)) == set(pd.to_datetime(dates))
    covers_the_ground(found, event_pairs())
    again = embed(scenes(), event_pairs(), tmp_path / "again.parquet", batch_size=7, **options)
    other = gpd.read_parquet(again)
    assert other.geometry.equals(found.geometry)
    assert np.allclose(np.stack(other["embedding"]), np.stack(found["embedding"]), atol=1e-5)


def test_their_command_line_predicts(tmp_path):
    write_items(scenes(), tmp_path / "items.parquet")
    write_pairs(event_pairs(), tmp_path / "pairs.parquet")
    out = tmp_path / "embeddings.parquet"
    given = {
        "config": "tests/conf/simclr.yaml",
        "data.init_args.items": tmp_path / "items.parquet",
        "data.init_args.pairs": tmp_path / "pairs.parquet",
        "trainer.default_root_dir": tmp_path,
        "trainer.callbacks": "rscontrast.embedding.EmbeddingWriter",
        "trainer.callbacks.out": out,
        "return_predictions": "false",
    }
    command = [sys.executable, "-m", "torchgeo", "predict"]
    command += [part for key, value in given.items() for part in (f"--{key}", str(value))]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stderr[-3000:]
    found = gpd.read_parquet(out)
    assert len(found) > 100
    covers_the_ground(found, event_pairs())


def test_a_footprint_is_cut_at_the_antimeridian():
    ring = outline(grid("EPSG:32601", corner=(165_800.0, 7_000.0), res=100.0))
    assert np.abs(np.diff(ring[:, 0])).max() < 1
    found = {
        "embedding": torch.zeros(1, 3),
        "date": torch.zeros(1),
        "valid_share": torch.ones(1),
        "outline": torch.from_numpy(ring)[None],
    }
    (shape,) = embedding_frame(found).geometry
    assert shape.is_valid
    assert shape.geom_type == "MultiPolygon"
    west, _, east, _ = shape.bounds
    assert (west, east) == pytest.approx((-180, 180))
    assert shape.area < 0.1


def test_a_pair_gives_a_row_a_date():
    ring = torch.from_numpy(outline(grid()))
    batch = {
        "image": torch.arange(8.0).reshape(2, 2, 2, 1, 1).expand(2, 2, 2, 4, 4),
        "outline": torch.stack([ring, ring + 1]),
        "dates": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "valid": torch.zeros(2, 2, 4, 4, dtype=torch.bool),
    }
    batch["valid"][0, 1] = True
    found = embed_batch(lambda images: images.mean(dim=(2, 3)), batch, 2)
    assert found["embedding"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert found["date"].tolist() == [1, 2, 3, 4]
    assert found["valid_share"].tolist() == [0, 1, 0, 0]
    assert torch.equal(found["outline"][1], ring)
    assert torch.equal(found["outline"][2], ring + 1)
    with pytest.raises(InputError, match="batch: got 'no outline'"):
        embed_batch(lambda images: images, {"image": batch["image"], "dates": batch["dates"]}, 2)


def test_what_cannot_be_is_refused(tmp_path):
    path, options = encoder(tmp_path), {"progress": False}
    with pytest.raises(BandError, match="bands: got"):
        embed(scenes(), event_pairs(), "x.parquet", encoder=path, bands=["red"], **options)
    with pytest.raises(InputError, match="batch_size: got 0"):
        embed(scenes(), event_pairs(), "x.parquet", encoder=path, batch_size=0, **options)
    with pytest.raises(InputError, match=r"out: got 'x.csv'; allowed: .*\.parquet"):
        EmbeddingWriter("x.csv")
    with pytest.raises(EmptySearchError, match="no row"):
        write_frames(tmp_path / "none.parquet", [])
    assert not (tmp_path / "none.parquet").exists()


def test_a_table_that_was_cut_is_not_there(world, tmp_path):
    class Cut(Middle):
        def forward(self, images):
            if seen:
                raise RuntimeError("cut")
            seen.append(images)
            return super().forward(images)

    seen = []
    items, pairs = world
    data = PairDataModule(items, pairs, ["x", "y"], patch_size=16, batch_size=2, length=4)
    out = tmp_path / "embeddings.parquet"
    run = trainer(tmp_path, callbacks=[EmbeddingWriter(str(out))])
    with pytest.raises(RuntimeError, match="cut"):
        run.predict(Cut(model="tu-resnet10t", in_channels=2), datamodule=data)
    assert list(tmp_path.iterdir()) == []


def test_many_rows_are_written_a_part_at_a_time(tmp_path):
    def frames():
        for number in range(10):
            found = {
                "embedding": torch.full((1000, 2), float(number)),
                "date": torch.arange(1000.0) + 1000 * number,
                "valid_share": torch.ones(1000),
                "outline": torch.from_numpy(outline(grid())).expand(1000, -1, 2),
            }
            yield embedding_frame(found)

    assert write_frames(tmp_path / "table.parquet", frames()) == 10_000
    assert pq.ParquetFile(tmp_path / "table.parquet").num_row_groups == 2
    found = gpd.read_parquet(tmp_path / "table.parquet")
    assert found["date"].is_monotonic_increasing
    assert len(found) == 10_000
