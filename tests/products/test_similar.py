"""Places alike: as a search over all rows would find them."""

from importlib import import_module

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from rscontrast.errors import EmptySearchError, InputError
from rscontrast.products import finish, similar
from tests.products import painted
from tests.products.conftest import QUIET

COUNT, SIZE = 60, 8


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """60 places in a row, each at two dates."""
    rng = np.random.default_rng(0)
    x = np.repeat(np.arange(COUNT) / 10, 2)
    frame = gpd.GeoDataFrame(
        {
            "embedding": list(rng.normal(size=(2 * COUNT, SIZE)).astype(np.float32)),
            "date": pd.to_datetime(["2022-01-01", "2023-01-01"] * COUNT, utc=True),
            "valid_share": 1.0,
        },
        geometry=shapely.box(x, 0, x + 0.1, 0.1),
        crs="EPSG:4326",
    )
    path = tmp_path_factory.mktemp("embeddings") / "all.parquet"
    frame.to_parquet(path)
    return path, frame


def oracle(frame, place, rows):
    units = np.stack(frame["embedding"]).astype(float)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    query = units[rows].mean(axis=0)
    cosine = units @ (query / np.linalg.norm(query))
    cosine[frame.intersects(place).to_numpy()] = -2
    return cosine


def test_it_is_what_a_full_search_finds(table, tmp_path, monkeypatch):
    path, frame = table
    place = shapely.Point(1.05, 0.05)
    cosine = oracle(frame, place, frame.intersects(place).to_numpy())
    best = pd.Series(cosine).groupby(np.arange(2 * COUNT) // 2).max().nlargest(7)
    found = similar(path, tmp_path / "out.parquet", place=(1.05, 0.05), count=7)
    assert np.allclose(found["similarity"], best, atol=1e-6)
    assert list(found["rank"]) == list(range(1, 8))
    assert [round(x * 10) for x in found.geometry.bounds["minx"]] == list(best.index)
    again = gpd.read_parquet(tmp_path / "out.parquet")
    assert list(again.columns) == ["rank", "similarity", "date", "valid_share", "geometry"]
    monkeypatch.setattr(import_module("rscontrast.products.similar"), "BATCH", 11)
    pd.testing.assert_frame_equal(similar(path, place=(1.05, 0.05), count=7), found)


def test_dates(table):
    path, frame = table
    place = shapely.Point(1.05, 0.05)
    early = frame.intersects(place).to_numpy() & (frame["date"].dt.year == 2022).to_numpy()
    expected = np.sort(oracle(frame, place, early))[::-1][:9]
    found = similar(path, place=[1.05, 0.05], toi="2022", count=9, every_date=True)
    assert np.allclose(found["similarity"], expected, atol=1e-6)


def test_an_area_is_a_place(table):
    path, _ = table
    found = similar(path, place=(1.01, 0.01, 1.19, 0.09), count=500)
    assert len(found) == COUNT - 2
    assert not found.intersects(shapely.box(1.01, 0.01, 1.19, 0.09)).any()


def test_bad_input(table, tmp_path):
    path, frame = table
    with pytest.raises(EmptySearchError, match="no embedding"):
        similar(path, place=(50.0, 50.0))
    with pytest.raises(EmptySearchError, match="no embedding"):
        similar(path, place=(1.05, 0.05), toi="1999")
    with pytest.raises(InputError, match="place"):
        similar(path, place=(190.0, 0.0))
    with pytest.raises(InputError, match="count"):
        similar(path, place=(1.05, 0.05), count=0)
    with pytest.raises(InputError, match="GeoParquet"):
        similar(tmp_path / "none.parquet", place=(1.05, 0.05))
    frame.drop(columns="embedding").to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(InputError, match="no embedding"):
        similar(tmp_path / "plain.parquet", place=(1.05, 0.05))
    uneven = frame.head(2).assign(embedding=[[1.0], [1.0, 2.0]])
    uneven.to_parquet(tmp_path / "uneven.parquet")
    with pytest.raises(InputError, match="one length"):
        similar(tmp_path / "uneven.parquet", place=(1.05, 0.05))


@QUIET
def test_a_run_with_an_encoder_is_searched(tmp_path, model):
    plan = painted.plan_of(painted.tiles())
    results = painted.write_embeddings(tmp_path, plan)
    finish(tmp_path, plan, model, results)
    frame = gpd.read_parquet(tmp_path / "embeddings.parquet")
    middle = frame.to_crs(32633).centroid.to_crs(4326)
    classes = painted.truth(middle.x.to_numpy(), middle.y.to_numpy())
    said = np.stack(frame["embedding"]).argmax(axis=1)
    assert (np.select([classes == 4, classes == 1], [0, 1], 2) == said).mean() > 0.99
    assert len(frame) == sum(r.valid_share > 0 for r in results) * 64 - hidden(tmp_path, plan)
    found = similar(tmp_path / "embeddings.parquet", place=painted.DISC[:2], count=5)
    assert (found["similarity"] > 0.999).all()
    assert found.intersects(shapely.Point(painted.DISC[:2]).buffer(0.003)).all()
    before = painted.tree(tmp_path)
    finish(tmp_path, plan, model, results)
    assert painted.tree(tmp_path) == before


def hidden(folder, plan):
    """Cells below the cloud."""
    count = 0
    for job in plan.jobs:
        count += (painted.truth(*painted.degrees(painted.cells(job.geobox))) == 255).sum()
    return count
