"""A whole run over the sample world, and over what can be wrong with it."""

import shutil
from dataclasses import replace

import numpy as np
import pystac
import pytest
import rasterio

from rscontrast.errors import BandError, EmptySearchError, InputError, WriteError
from rscontrast.mapping import plan_map, run
from rscontrast.mapping.command import map_catalog
from rscontrast.mapping.status import status
from rscontrast.stac import search
from rscontrast.stac.provider import GENERIC
from rscontrast.stac.signing import BearerSigner
from tests.sample_world import CATALOG, EVENT, event_pairs, scenes

SMALL = {"patch_size": 64, "overlap": 16, "tile_size": 256, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def mapped(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "maps"
    return run(scenes(), checkpoint, out, event=EVENT, **SMALL)


def test_a_catalog_that_our_own_search_reads(mapped, checkpoint):
    made = plan_map(scenes(), checkpoint, event=EVENT, patch_size=64, tile_size=256)
    found = search(mapped)
    assert set(found["id"]) >= {job.id for job in made.jobs}
    assert status(mapped.parent).exit_code == 0
    items = {item.id: item for item in pystac.Catalog.from_file(mapped).get_items(recursive=True)}
    valid = 0
    for job in made.jobs:
        with rasterio.open(items[job.id].assets["classes"].get_absolute_href()) as file:
            assert file.transform == job.geobox.transform
            valid += np.count_nonzero(file.read(1) != 255)
    assert valid > 100_000


def test_the_command_maps_plans_and_tells(mapped, checkpoint):
    again = map_catalog(scenes(), checkpoint=checkpoint, out=mapped.parent, event=EVENT, **SMALL)
    assert again.exit_code == 0
    assert again.catalog == mapped
    assert str(mapped) in str(again)
    text = map_catalog(
        catalog=str(CATALOG), checkpoint=checkpoint, out=mapped.parent, event=EVENT, dry_run=True,
        **SMALL,
    )  # fmt: skip
    assert "to read: about" in text
    assert "the rate of the run before" in text
    assert map_catalog(status=mapped.parent).done == again.status.done


def test_pairs_and_an_aoi(checkpoint, tmp_path):
    pairs = event_pairs()
    aoi = pairs.geometry.iloc[0].centroid.buffer(0.0005)
    made = run(scenes(), checkpoint, tmp_path / "maps", pairs=pairs, aoi=aoi, **SMALL)
    (item,) = [i for i in pystac.Catalog.from_file(made).get_items(recursive=True)
               if i.id.startswith("32633_")]  # fmt: skip
    with rasterio.open(item.assets["classes"].get_absolute_href()) as file:
        share = np.mean(file.read(1) != 255)
    assert 0 < share < 0.2


def broken_items(folder):
    """The scenes, one of them with a file whose blocks are cut off."""
    frame = scenes()
    row = int(np.flatnonzero(frame["id"] == "east_20220824_a")[0])
    assets = {key: dict(asset) for key, asset in frame["assets"].iloc[row].items()}
    path = folder / "broken.tif"
    shutil.copy(assets["red"]["href"], path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assets["red"]["href"] = str(path)
    column = list(frame["assets"])
    column[row] = assets
    return frame.assign(assets=column)


def test_an_unreadable_block_costs_its_tiles_and_no_other(checkpoint, tmp_path):
    frame = broken_items(tmp_path)
    with pytest.warns(UserWarning, match=r"jobs failed.*east_20220824_a.*red"):
        run(frame, checkpoint, tmp_path / "maps", event=EVENT, attempts=1, **SMALL)
    found = status(tmp_path / "maps")
    assert found.exit_code == 3
    assert found.done > 0
    assert found.failed > 0
    assert all(name.startswith("32633_") for name in found.errors)
    run(scenes(), checkpoint, tmp_path / "maps", event=EVENT, **SMALL)
    assert status(tmp_path / "maps").exit_code == 0


def test_a_signature_that_is_not_to_be_had_names_the_remedy(checkpoint, tmp_path):
    signer = BearerSigner("A_TOKEN_THAT_IS_NOT_SET", "", "https://example.com")
    provider = replace(GENERIC, signer=signer)
    with pytest.raises(WriteError, match=r"jobs failed.*get a token at https://example\.com"):
        run(scenes(), checkpoint, tmp_path / "maps", event=EVENT, attempts=1,
            provider=provider, **SMALL)  # fmt: skip
    assert status(tmp_path / "maps").exit_code == 3


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"aoi": (100, 10, 101, 11)}, EmptySearchError, "no item meets the aoi"),
        ({"event": "2010-01-01"}, EmptySearchError, "no item before"),
        ({"engine": "ray"}, InputError, "engine: got 'ray'"),
        ({"address": "tcp://x"}, InputError, "address: got"),
        ({"window": "hann"}, InputError, "window: got"),
        ({"workers": -1}, InputError, "workers: got -1"),
        ({"provider": "nobody"}, InputError, "provider: got 'nobody'"),
    ],
)
def test_bad_arguments_begin_nothing(change, error, text, checkpoint, tmp_path):
    with pytest.raises(error, match=text):
        run(scenes(), checkpoint, tmp_path / "maps", **({"event": EVENT} | SMALL | change))
    assert not (tmp_path / "maps").exists()


def test_items_of_other_bands(checkpoint, tmp_path):
    frame = scenes()
    few = [{k: a for k, a in assets.items() if k != "nir"} for assets in frame["assets"]]
    with pytest.raises(BandError, match="nir"):
        run(frame.assign(assets=few), checkpoint, tmp_path / "maps", event=EVENT, **SMALL)
