"""xBD and BRIGHT: one layout, nodata beyond the swath, splits by place or event, shares."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from rscontrast.datamodules import BRIGHTDataModule, XBDDataModule
from rscontrast.datamodules.share import stratified
from rscontrast.datasets import Crop, PairTiles
from rscontrast.datasets.tiles import seen, xbd_tiles
from rscontrast.errors import AssetError, InputError
from rscontrast.tasks import DamageSegmentation, SimCLR
from tests.sample_world import trainer
from tests.xbd_world import arrays, write_bright, write_xbd

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "xbd_mexico"
SMALL = {"patch_size": 32, "batch_size": 4, "length": 8}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_xbd(tmp_path_factory.mktemp("xbd"))


def fitted(root, **arguments):
    data = XBDDataModule(root, **(SMALL | arguments))
    data.setup("fit")
    return data


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_sample_is_the_files_with_the_target_of_the_date_after(root, in_memory):
    tiles = PairTiles(xbd_tiles(root, "train"), in_memory=in_memory)
    for number in (0, 3, 3):
        sample = tiles[number]
        pre, post, target = arrays(_seed(tiles, number))
        both = np.moveaxis(np.stack([pre, post]), -1, 1).astype(np.float32) / 255
        assert np.array_equal(sample["image"].numpy(), both)
        assert np.array_equal(sample["mask"].numpy(), target)
        valid = np.ones((2, 64, 64), bool)
        valid[1, :6, :6] = False  # the corner, but not the shadow
        assert np.array_equal(sample["valid"].numpy(), valid)
    part = tiles[Crop(3, 10, 20, 32)]
    for key in ("image", "valid", "mask"):
        assert torch.equal(part[key], sample[key][..., 10:42, 20:52])


def _seed(tiles, number):
    return int(tiles.tiles[number].name.rpartition("_")[2])


def test_black_is_nodata_where_it_hangs_together_with_the_border():
    image = np.full((3, 6, 6), 9, np.uint8)
    image[:, 0, 3:] = image[:, 1, 3] = image[:, 4, 2] = 0
    image[0, 5, 5] = 0  # not black in all bands
    expected = np.ones((6, 6), bool)
    expected[0, 3:] = expected[1, 3] = False
    assert np.array_equal(seen(image), expected)


def test_validation_holds_out_whole_places_or_events(root):
    data = fitted(root, val_share=0.34)
    names = {t.name for t in data.train_dataset.tiles}, {t.name for t in data.val_dataset.tiles}
    assert not names[0] & names[1]
    assert (len(names[0]), len(names[1])) == (4, 2)
    data = fitted(root, split_by="event")
    events = {t.event for t in data.train_dataset.tiles}, {t.event for t in data.val_dataset.tiles}
    assert sorted(map(len, events)) == [1, 1]
    assert not events[0] & events[1]
    assert fitted(root, val_share=0.0).val_dataloader() == []
    with pytest.raises(InputError, match=r"only one group, palu-tsunami"):
        fitted(root, split_by="event", events=["palu-tsunami"])


def test_events_that_are_tested_on_are_not_trained_on(root):
    data = fitted(root, test_events=["palu-tsunami"])
    data.setup("test")
    own = [*data.train_dataset.tiles, *data.val_dataset.tiles]
    assert {t.event for t in own} == {"mexico-earthquake"}
    assert {t.event for t in data.test_dataset.tiles} == {"palu-tsunami"}
    assert len(data.test_dataset) == 4
    with pytest.raises(InputError, match="events that have tiles"):
        fitted(root, events=["x"])


def test_a_share_is_taken_from_every_place_alike():
    places = [place for place, count in enumerate((100, 50, 10, 3)) for _ in range(count)]
    former: set[int] = set()
    for share in (0.01, 0.1, 0.5, 1.0):
        found = stratified(places, share, seed=3)
        assert len(found) == round(share * len(places))
        counts = Counter(places[n] for n in found)
        for place, total in Counter(places).items():
            assert abs(counts[place] - share * total) <= 1
        assert former <= set(found)
        former = set(found)
    assert stratified(places, 0.1, 3) == stratified(places, 0.1, 3) != stratified(places, 0.1, 4)
    assert len(stratified(places, 1e-9, 0)) == 1


def test_share_class_weights_and_statistics(root):
    data = fitted(root, label_share=0.5, val_share=0.0)
    assert len(data.train_sampler.sampler.patches.slices) == 12  # of 6 tiles, 4 crops each
    assert len({c.tile for c in data.train_sampler.sampler.patches.slices}) == 6
    pixels = [data.train_dataset[n] for n in range(6)]
    usable = [s["image"].movedim(1, 0)[:, s["valid"]] for s in pixels]
    mean = torch.cat(usable, dim=1).double().mean(dim=1)
    assert data.contract.mean == pytest.approx(mean.tolist(), rel=1e-5)
    assert data.contract.bands == ("red", "green", "blue")
    other = fitted(root, contract=data.contract, label_share=0.1)
    assert other.contract == data.contract
    assert (
        fitted(root, label_share=0.1).class_weights == fitted(root, label_share=0.1).class_weights
    )


def test_a_segmenter_trains_validates_and_is_tested_on_whole_tiles(root, tmp_path):
    torch.manual_seed(0)
    data = fitted(root)
    task = DamageSegmentation("tu-test_resnet", in_channels=3, class_weights=data.class_weights)
    run = trainer(tmp_path, max_epochs=1, limit_val_batches=1.0)
    run.fit(task, datamodule=data)
    assert run.global_step == 2
    assert task.val_scores.parts["classes"].update_called is False  # reset, after it was logged
    assert torch.isfinite(run.callback_metrics["val_building_iou"])
    (scores,) = run.test(task, datamodule=data, verbose=False)
    assert 0 <= scores["test_building_iou"] <= 1
    batch = next(iter(data.test_dataloader()))
    assert batch["image"].shape == (1, 2, 3, 64, 64)


def test_the_same_pairs_are_there_to_pretrain_on(root, tmp_path):
    torch.manual_seed(0)
    data = XBDDataModule(root, **SMALL, views={"preset": "simclr"}, view_size=16)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(SimCLR("tu-test_resnet", 3, hidden_dim=16, output_dim=8), datamodule=data)
    assert run.global_step == 2
    assert data.val_dataloader() == []
    assert len(data.train_dataset) == 6
    with pytest.raises(InputError, match="views"):
        fitted(root, views={"blurr": 1})


def test_bright_is_read_with_its_own_validation_as_the_test(tmp_path):
    data = BRIGHTDataModule(write_bright(tmp_path), **SMALL, val_share=0.3)
    data.setup("fit")
    assert (len(data.train_dataset), len(data.val_dataset)) == (2, 1)
    sample = data.train_dataset[0]
    assert sample["image"].shape == (2, 3, 64, 64)
    assert torch.equal(sample["image"][1, 0], sample["image"][1, 2])
    assert sample["mask"].max() < 4
    data.setup("test")
    assert [t.name for t in data.test_dataset.tiles] == ["bata-explosion_00000009"]
    assert data.class_names == ("background", "intact", "damaged", "destroyed")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"label_share": 0.0}, "label_share: got 0"),
        ({"val_share": 1.0}, "val_share: got 1"),
        ({"split_by": "patch"}, "split_by: got 'patch'"),
        ({"patch_size": 40}, "patch_size: got 40"),
        ({"patch_size": 96}, "patch_size: got 96; allowed: up to 64"),
        ({"length": 2}, "length: got 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(more, words, root):
    with pytest.raises(InputError, match=words):
        fitted(root, **more)


def test_a_broken_file_is_named(root, tmp_path):
    broken = write_xbd(tmp_path, train=2, test=2)
    path = sorted((broken / "train" / "images").glob("*post*"))[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AssetError, match=path.name):
        fitted(broken, val_share=0.0)
    with pytest.raises(InputError, match="contract: got None"):
        XBDDataModule(root, **SMALL).setup("test")


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/xbd_mexico")
def test_real_tiles():
    tiles = PairTiles(xbd_tiles(REAL, "train"), in_memory=True)
    assert len(tiles) == 40
    assert len(PairTiles(xbd_tiles(REAL, "test"))) == 16
    number = {tile.name[-3:]: n for n, tile in enumerate(tiles.tiles)}
    half, clear = tiles[number["055"]], tiles[number["001"]] if "001" in number else tiles[1]
    assert half["valid"].float().mean(dim=(1, 2)).tolist() == pytest.approx(
        [0.634, 0.619], abs=2e-3
    )
    assert clear["valid"].float().mean() > 0.95
    # Of the date after: most buildings are not damaged, and not background.
    counts = np.bincount(half["mask"].numpy().ravel(), minlength=5)
    assert counts.argmax() == 0
    assert counts[1] > 1252
    assert counts.sum() == 512 * 512
