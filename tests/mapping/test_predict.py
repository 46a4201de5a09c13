"""A job's map: seamless, the same however it is cut, honest about what it has not seen."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
import torch
from odc.geo.geobox import GeoBox

from rscontrast.errors import AssetError, GridError, InputError, TrainingError
from rscontrast.mapping.bands import Layout
from rscontrast.mapping.colours import class_colours
from rscontrast.mapping.job import Settings
from rscontrast.mapping.predict import load, map_job
from rscontrast.models import create_encoder, save_encoder
from tests.mapping import fields
from tests.mapping.conftest import CLASSES, save
from tests.mapping.fields import MIDDLE, RES, Convolutions, job, model, moved, scene

SETTINGS = Settings("model.pt", patch_size=64, overlap=32, batch_size=8)
X, Y = MIDDLE


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two scenes of 200 x 200 with a hole in each."""
    folder = tmp_path_factory.mktemp("pair")
    pre = scene(folder, "pre", holes=[np.s_[20:40, 30:60]])
    return pre, scene(folder, "post", holes=[np.s_[150:160, :]])


def mapped(folder, a_job, a_model=None, settings=SETTINGS):
    """(classes [H, W], probabilities [K, H, W] in steps, mask [H, W], result)."""
    result = map_job(a_job, a_model or model(), settings, folder)
    with rasterio.open(folder / a_job.id / "classes.tif") as file:
        classes, mask = file.read(1), file.dataset_mask() == 255
    with rasterio.open(folder / a_job.id / "probabilities.tif") as file:
        assert np.array_equal(file.dataset_mask() == 255, mask)
        return classes, file.read().astype(int), mask, result


def agree(one, other):
    """Equal to a step of 255, and equal classes outside ties."""
    assert np.array_equal(one[2], other[2])
    assert np.abs(one[1] - other[1]).max() <= 1
    best = np.sort(one[1], axis=0)
    clear = one[2] & (best[-1] - best[-2] > 2)
    assert clear.mean() > 0.5
    assert np.array_equal(one[0][clear], other[0][clear])


@pytest.mark.parametrize("window", ["cosine", "flat"])
def test_a_tiled_prediction_is_that_of_the_whole_image(pair, window, tmp_path):
    _, steps, mask, _ = mapped(tmp_path, job(pair[:1], pair[1:]), model(window=window))
    whole = fields.truth(Convolutions(), job([], []).geobox)
    # A convolution has seen the border, and the holes, within its reach of them.
    reach = Convolutions.reach
    clear = np.zeros_like(mask)
    clear[reach:-reach, reach:-reach] = True
    clear[20 - reach : 40 + reach, 30 - reach : 60 + reach] = False
    clear[150 - reach : 160 + reach] = False
    assert clear.mean() > 0.6
    # Reflectance is stored in steps of 1e-4, probability in steps of 1/254.
    assert np.abs(steps / 254 - whole)[:, clear].max() < 1e-3 + 0.5 / 254


@pytest.mark.parametrize("window", ["cosine", "flat"])
def test_before_rounding_it_differs_by_less_than_a_thousandth(pair, window, monkeypatch, tmp_path):
    from rscontrast.mapping import products

    seen = []
    original = products.Maps.numbers
    monkeypatch.setattr(
        products.Maps, "numbers",
        lambda self, values: (seen.append(values.clone().numpy()), original(self, values))[1],
    )  # fmt: skip
    folder = tmp_path / "in"
    folder.mkdir()
    whole_pair = scene(folder, "pre", shape=(300, 300)), scene(folder, "post", shape=(300, 300))
    mapped(tmp_path, job([whole_pair[0]], [whole_pair[1]], shape=(300, 300)), model(window=window))
    found = np.concatenate(seen, axis=1)
    whole = fields.truth(Convolutions(), job([], [], shape=(300, 300)).geobox)
    inner = np.s_[:, 6:-6, 6:-6]
    assert np.abs(found - whole)[inner].max() < 1e-3
    assert whole.max(axis=(1, 2)).min() > 0.3  # each class has a say somewhere


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 64}, {"threads": 1}],
    ids=str,
)
def test_a_map_does_not_depend_on_batches(pair, change, tmp_path):
    a_job = job(pair[:1], pair[1:])
    agree(
        mapped(tmp_path / "a", a_job),
        mapped(tmp_path / "b", a_job, settings=replace(SETTINGS, **change)),
    )


@pytest.mark.parametrize("cut", [(200, 70), (67, 200), (100, 100)], ids=str)
@pytest.mark.parametrize("epsg", [32632, 32633])
def test_a_map_does_not_depend_on_tiles(pair, cut, epsg, tmp_path):
    corner = MIDDLE if epsg == 32632 else moved(epsg, X + 100, Y - 100)
    shape = (200, 200)
    expected = mapped(tmp_path, job(pair[:1], pair[1:], epsg=epsg, corner=corner))
    whole = [np.zeros_like(part) for part in expected[:3]]
    for row in range(0, shape[0], cut[0]):
        for col in range(0, shape[1], cut[1]):
            size = (min(cut[0], shape[0] - row), min(cut[1], shape[1] - col))
            place = (corner[0] + col * RES, corner[1] - row * RES)
            tile = job(pair[:1], pair[1:], epsg=epsg, corner=place, shape=size, name=f"{row}{col}")
            for into, part in zip(whole, mapped(tmp_path, tile)[:3], strict=True):
                into[..., row : row + size[0], col : col + size[1]] = part
    if epsg == 32632:
        agree(expected, whole)
    else:  # where a scene ends, a pixel's places are found to a hundredth
        assert (expected[2] != whole[2]).mean() < 1e-3
        both = expected[2] & whole[2]
        assert np.abs(expected[1] - whole[1])[:, both].max() <= 2


def test_the_same_bytes_again(pair, tmp_path):
    a_job, settings = job(pair[:1], pair[1:]), replace(SETTINGS, uncertainty=True)
    one, other = (map_job(a_job, model(), settings, tmp_path / name) for name in "ab")
    assert one.files == other.files
    assert set(one.files) == {"tile/classes.tif", "tile/probabilities.tif"}


def test_what_is_not_seen_at_both_dates_is_masked_and_counted(pair, tmp_path):
    classes, steps, mask, result = mapped(tmp_path, job(pair[:1], pair[1:]))
    expected = np.ones((200, 200), bool)
    expected[20:40, 30:60] = False
    expected[150:160] = False
    assert np.array_equal(mask, expected)
    assert (classes[~mask] == 255).all()
    assert (steps[:, ~mask] == 255).all()
    assert np.abs(steps.sum(axis=0)[mask] - 254).max() <= 2
    top = steps.max(axis=0)
    assert (np.take_along_axis(steps, np.where(mask, classes, 0)[None].astype(int), 0)[0] == top)[
        mask
    ].all()
    assert result.valid_share == pytest.approx(mask.mean())
    assert result.km2 == pytest.approx(mask.sum() * 1e-4)
    assert result.class_pixels == tuple(np.bincount(classes[mask], minlength=3))
    assert min(result.class_pixels) > 0


def test_only_the_aoi_is_mapped(pair, tmp_path):
    aoi = shapely.box(X + 500, Y - 1000, X + 900, Y - 600)
    _, steps, mask, _ = mapped(tmp_path, job(pair[:1], pair[1:], aoi=aoi))
    expected = np.zeros((200, 200), bool)
    expected[60:100, 50:90] = True
    assert np.array_equal(mask, expected)
    everything = mapped(tmp_path / "all", job(pair[:1], pair[1:]))
    assert np.abs(steps - everything[1])[:, mask].max() <= 1


def test_files_say_what_their_numbers_mean(pair, tmp_path):
    map_job(job(pair[:1], pair[1:]), model(), replace(SETTINGS, uncertainty=True), tmp_path)
    with rasterio.open(tmp_path / "tile" / "classes.tif") as file:
        assert file.colormap(1)[2] == class_colours(3)[2]
        assert file.tags()["pre"] == "pre"
        classes = file.read(1, masked=True)
        told = file.tags(1)
        assert float(told["STATISTICS_MEAN"]) == pytest.approx(classes.mean())
        assert float(told["STATISTICS_MAXIMUM"]) == classes.max()
    with rasterio.open(tmp_path / "tile" / "probabilities.tif") as file:
        assert file.descriptions == (*fields.CLASSES, "uncertainty")
        assert file.scales[0] == pytest.approx(1 / 254)
        values = file.read(masked=True)
        share = np.maximum(values[:3] / 254, 1e-9)
        entropy = -(share * np.log(share)).sum(axis=0) / np.log(3)
        assert np.abs(values[3] / 254 - entropy).max() < 0.02
        assert values[3].std() > 5


def scenes_of_one_field(folder):
    """Scenes west and east of a border, at another place at each date, and one of zone 33."""
    for name in ("pre", "post"):
        cut = 90 if name == "pre" else 120
        yield [
            scene(folder, f"{name}-west", shape=(200, cut)),
            scene(folder, f"{name}-east", corner=(X + (cut - 15) * RES, Y), shape=(200, 215 - cut)),
        ], scene(folder, f"{name}-33", epsg=32633, corner=moved(32633, X - 500, Y + 500),
                 shape=(320, 320))  # fmt: skip


def test_no_seam_across_scenes_and_zones(tmp_path):
    (pre, pre33), (post, post33) = scenes_of_one_field(tmp_path)
    whole = fields.truth(Convolutions(), job([], []).geobox)
    inner = np.s_[:, 6:-6, 6:-6]
    settings = replace(SETTINGS, batch_size=16)
    for name, a_job in (("scenes", job(pre, post)), ("zones", job(pre, [post33])),
                        ("mixed", job([pre[0], pre33], [post[1], post33]))):  # fmt: skip
        _, steps, mask, _ = mapped(tmp_path / name, a_job, settings=settings)
        assert mask.all(), name
        error = np.abs(steps / 254 - whole)[inner]
        # Between pixels of another zone a wave is read off straight lines.
        assert error.max() < (0.5 / 254 + 1e-3 if name == "scenes" else 0.02), name
    neighbour = moved(32633, X + 300, Y - 300)
    there = job([pre33], [post33], epsg=32633, corner=neighbour, shape=(120, 120))
    _, steps, mask, _ = mapped(tmp_path / "33", there)
    assert mask.all()
    assert np.abs(steps / 254 - fields.truth(Convolutions(), there.geobox))[inner].max() < 3e-3


def test_bf16_and_int8_say_nearly_the_same(checkpoint):
    settings = Settings(str(checkpoint), patch_size=64, overlap=16, device="cpu")
    torch.manual_seed(0)
    patches = torch.randn(2, 2, 4, 64, 64)
    with torch.inference_mode():
        exact = load(settings).infer(patches)
        for precision, most in (("bf16", 0.03), ("int8", 0.12)):
            found = load(replace(settings, precision=precision)).infer(patches)
            assert found.dtype == torch.float32
            assert 0 < (found - exact).abs().mean() < most, precision
            assert torch.equal(
                found, load(replace(settings, precision=precision)).infer(patches)
            ), precision


def test_eight_turns_are_averaged():
    module, torch_pair = Convolutions(), torch.randn(2, 2, 2, 64, 64)
    with torch.inference_mode():
        found = model(tta=True).infer(torch_pair)
        total = 0
        for k in range(4):
            turned = torch.rot90(torch_pair, k, (-2, -1))
            total = total + torch.rot90(module.probabilities(module(turned)), -k, (-2, -1))
            flip = turned.flip(-1)
            total = total + torch.rot90(module.probabilities(module(flip)).flip(-1), -k, (-2, -1))
    torch.testing.assert_close(found, total / 8)


def test_turns_reach_the_map(pair, tmp_path):
    plain = mapped(tmp_path / "a", job(pair[:1], pair[1:]))
    turns = mapped(tmp_path / "b", job(pair[:1], pair[1:]), model(tta=True))
    assert np.array_equal(plain[2], turns[2])
    assert np.abs(plain[1] - turns[1]).max() > 5


def test_errors_leave_no_file_and_no_thread(pair, tmp_path):
    lost = Path(tmp_path / "lost.tif")
    good = Path(pair[1]["assets"]["image"]["href"]).read_bytes()
    lost.write_bytes(good[: len(good) // 2])
    broken = fields.item("post", lost, job([], []).geobox)
    before = threading.active_count()
    with pytest.raises(AssetError, match="cannot read"):
        mapped(tmp_path, job(pair[:1], [broken]))
    module = Convolutions()
    module.layers[-1].bias.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="NaN"):
        mapped(tmp_path, job(pair[:1], pair[1:]), model(module=module))
    assert not list((tmp_path / "tile").iterdir())
    names = [t.name for t in threading.enumerate()]
    assert not [n for n in names if n in ("rscontrast-ahead", "rscontrast-behind")]
    assert threading.active_count() <= before + 8  # the threads that read stay


def test_pixels_of_another_size_are_refused(pair, tmp_path):
    a_job = job(pair[:1], pair[1:])
    box = GeoBox((100, 100), a_job.geobox.transform @ a_job.geobox.transform.scale(2), "EPSG:32632")
    with pytest.raises(GridError, match="20 m, the model learned from 10 m"):
        map_job(replace(a_job, geobox=box), model(), SETTINGS, tmp_path)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("encoder") / "encoder.pt"
    save_encoder(path, create_encoder("tu-resnet10t", 2), "tu-resnet10t", fields.CONTRACT)
    return path


def test_an_encoder_writes_the_direction_of_its_features(pair, encoder, tmp_path):
    settings = Settings(str(encoder), patch_size=128, overlap=64, device="cpu")
    found = load(settings)
    assert (found.cell, found.dates) == (32, 1)
    corner = (32 * RES * round(X / 320), 32 * RES * round(Y / 320))
    places = {"whole": (corner, (192, 192))}
    places |= {f"{row}": ((corner[0], corner[1] - row * 96 * RES), (96, 192)) for row in (0, 1)}
    images = {}
    for name, (at, shape) in places.items():
        result = map_job(job([], pair[1:], corner=at, shape=shape, name=name), found, settings,
                         tmp_path)  # fmt: skip
        assert list(result.files) == [f"{name}/embedding.tif"]
        with rasterio.open(tmp_path / name / "embedding.tif") as file:
            images[name] = file.read().astype(int)
            assert file.res == (320.0, 320.0)
            assert file.nodata == -128
            assert file.count == found.channels
    whole = images["whole"]
    assert whole.shape[1:] == (6, 6)
    parts = np.concatenate([images["0"], images["1"]], axis=1)
    assert np.abs(whole - parts).max() <= 1
    seen = (whole != -128).all(axis=0)
    assert seen.mean() > 0.5
    assert (np.abs(whole[:, seen]).max(axis=0) == 127).all()


def test_a_tile_that_cuts_cells_is_refused(pair, encoder, tmp_path):
    found = load(Settings(str(encoder), patch_size=128, overlap=64, device="cpu"))
    with pytest.raises(GridError, match="multiples of the stride 32"):
        Layout(job([], pair[1:], shape=(100, 100)), found)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"patch_size": 100}, "patch_size: got 100"),
        ({"overlap": 65}, "overlap: got 65"),
        ({"overlap": 40}, "overlap: got 40"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(change, text, encoder):
    with pytest.raises(InputError, match=text):
        load(replace(Settings(str(encoder), patch_size=128, overlap=64, device="cpu"), **change))


def test_int8_of_an_encoder_is_refused(encoder):
    with pytest.raises(InputError, match="precision: got 'int8'"):
        load(Settings(str(encoder), patch_size=128, precision="int8", device="cpu"))


def test_a_segmenter_of_ours_is_loaded_with_its_window(tmp_path):
    settings = Settings(str(save(tmp_path / "m.pt")), patch_size=64, overlap=16, window="flat",
                        device="cpu")  # fmt: skip
    found = load(settings)
    assert (found.class_names, found.channels, found.size) == (CLASSES, 5, 64)
    assert found.window.lead == 8


MEMORY = """
import sys
from pathlib import Path
from rscontrast.io import cells, write
from tests.mapping.fields import item, job, model
from rscontrast.mapping.job import Settings
from rscontrast.mapping.predict import map_job

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

# Caches have bounds of their own, which so little imagery would not reach.
cells.BYTES, write.CACHE = 2**20, 2**20
folder = Path(sys.argv[1])
settings = Settings("m", patch_size=128, overlap=32, batch_size=8)
for height in (1200, 3600):
    boxes = job([], [], shape=(3600, 1000)).geobox
    pre, post = (item(name, folder / f"{name}.tif", boxes) for name in ("pre", "post"))
    map_job(job([pre], [post], shape=(height, 1000)), model(128, 32), settings, folder)
    print(peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
def test_memory_does_not_grow_with_the_height(tmp_path):
    for name in ("pre", "post"):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", height=3600, width=1000, count=2,
            dtype="uint16", nodata=0, crs="EPSG:32632", tiled=True, blockxsize=256,
            blockysize=256, compress="deflate", transform=job([], []).geobox.transform,
        ) as raster:  # fmt: skip
            noise = np.random.default_rng(0).integers(2000, 4000, (2, 3600, 1000))
            raster.write(noise.astype("uint16"))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    third, whole = map(float, done.stdout.split())
    # Its two dates alone are 58 MB as floats, 38 MB more than those of the third.
    assert whole < third + 20
