"""A checkpoint knows what it was fed; other data are refused, or it is fitted to them."""

import re

import pytest
import torch

from rscontrast.augment import Normalise
from rscontrast.errors import BandError, CheckpointError, InputError
from rscontrast.models import (
    SiameseSegmenter,
    create_encoder,
    create_segmenter,
    load_encoder,
    load_segmenter,
    save_encoder,
    save_segmenter,
)
from rscontrast.types import SensorContract
from tests.sample_world import BANDS, CONTRACT

OTHER = ("nir", "swir", "red", "green")  # another order, without blue, with swir
DATA = SensorContract(OTHER, 10.0, (0.2, 0.15, 0.1, 0.1), (0.1, 0.08, 0.05, 0.05))
ENCODERS = ["resnet18", "tu-test_resnet", "tu-test_vit", "tu-test_convnext", "mit_b0"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def saved(name, tmp_path):
    encoder = create_encoder(name, len(BANDS)).eval()
    save_encoder(tmp_path / "e.pt", encoder, name, CONTRACT)
    return encoder, tmp_path / "e.pt"


def features(encoder, images):
    """Maps that weights have made: not the image, which some encoders pass on as level 0."""
    with torch.inference_mode():
        return [level for level in encoder(images) if level.shape[1:] != images.shape[1:]]


def same(ones, others):
    assert len(ones) == len(others) > 3
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_reordered_encoder_says_the_same_of_reordered_bands(name, tmp_path):
    encoder, path = saved(name, tmp_path)
    order = [2, 0, 3, 1]
    found = load_encoder(path, [BANDS[i] for i in order], adapt=True)
    assert found.contract.bands == tuple(BANDS[i] for i in order)
    assert found.contract.mean == tuple(CONTRACT.mean[i] for i in order)
    images = torch.randn(2, 4, 64, 64)
    same(features(found.module, images[:, order]), features(encoder, images))


@pytest.mark.parametrize("name", ENCODERS)
def test_a_missing_band_is_read_as_its_mean_and_a_new_one_not_at_all(name, tmp_path):
    encoder, path = saved(name, tmp_path)
    found = load_encoder(path, DATA, adapt=True)
    images = torch.randn(2, 4, 64, 64)
    as_before = torch.zeros(2, 4, 64, 64)  # blue stays 0, which is its mean
    for index, band in enumerate(OTHER):
        if band in BANDS:
            as_before[:, BANDS.index(band)] = images[:, index]
    same(features(found.module, images), features(encoder, as_before))


def test_a_new_band_learns_from_the_first_step(tmp_path):
    _, path = saved("tu-test_resnet", tmp_path)
    found = load_encoder(path, DATA, adapt=True).module
    found(torch.randn(2, 4, 64, 64))[-1].square().sum().backward()
    (first,) = [p for name, p in found.named_parameters() if p.ndim == 4 and p.shape[1] == 4]
    assert torch.equal(first[:, 1], torch.zeros_like(first[:, 1]))
    assert first.grad[:, 1].abs().max() > 0


def test_an_adapted_contract_keeps_what_the_weights_know_and_takes_the_rest_from_the_data():
    found = CONTRACT.adapted(DATA)
    assert found.bands == OTHER
    assert found.res == 10.0
    assert found.mean == (0.25, 0.15, 0.09, 0.08)  # swir is the data's, the others the contract's
    assert found.std == (0.1, 0.08, 0.04, 0.03)
    assert CONTRACT.adapted(BANDS) == CONTRACT


def test_another_scale_normalises_to_the_same_numbers():
    eight = SensorContract(BANDS, 2.5, (0.0,) * 4, (1.0,) * 4, scale=255.0)
    found = CONTRACT.adapted(eight)
    assert found.scale == 255
    image, valid = torch.rand(4, 8, 8), torch.ones(8, 8, dtype=torch.bool)
    ours, theirs = Normalise(CONTRACT)(image, valid), Normalise(found)(image * 255, valid)
    torch.testing.assert_close(ours, theirs)


def test_new_bands_need_the_contract_of_the_data(tmp_path):
    _, path = saved("tu-test_resnet", tmp_path)
    with pytest.raises(BandError, match=r"swir.*allowed: some of.*nir.*contract of the data"):
        load_encoder(path, OTHER, adapt=True)


@pytest.mark.parametrize("bands", [("a", "b"), (), ("red", "red")])
def test_bands_that_have_nothing_in_common_are_refused(bands, tmp_path):
    _, path = saved("tu-test_resnet", tmp_path)
    with pytest.raises(BandError) as error:
        load_encoder(path, bands, adapt=True)
    assert str(bands) in str(error.value)
    assert str(BANDS) in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": OTHER}, re.escape(f"got {OTHER!r}; allowed: {BANDS!r}")),
        ({"scale": 255.0}, "scale: got 255.0; allowed: 1, as the checkpoint was trained"),
        ({"res": 10.0}, "res: got 10.0; allowed: about 2.5 m.*adapt=True"),
    ],
)
def test_data_of_another_contract_are_refused_unless_asked(change, message, tmp_path):
    fields = {"bands": BANDS, "res": 3.0, "mean": (0.3,) * 4, "std": (0.2,) * 4}
    encoder, path = saved("tu-test_resnet", tmp_path)
    del encoder
    load_encoder(path, SensorContract(**fields))  # about the same pixels, other statistics
    with pytest.raises(InputError, match=message):
        load_encoder(path, SensorContract(**fields | change))
    load_encoder(path, SensorContract(**fields | change), adapt=True)


def test_a_contract_without_scale_is_of_reflectance():
    data = CONTRACT.to_dict()
    del data["scale"]
    assert SensorContract.from_dict(data) == CONTRACT
    with pytest.raises(InputError, match="scale: got 0"):
        SensorContract(BANDS, 1.0, (0.0,) * 4, (1.0,) * 4, scale=0.0)


@pytest.mark.parametrize(
    ("encoder", "decoder"), [("tu-test_resnet", "unet"), ("tu-test_vit", "dpt")]
)
def test_a_segmenter_is_fitted_to_other_bands_too(encoder, decoder, tmp_path):
    module = SiameseSegmenter(encoder, decoder, 4, 2, "attention").eval()
    module.temperature = 2.0
    save_segmenter(tmp_path / "s.pt", module, CONTRACT, ("a", "b"))
    found = load_segmenter(tmp_path / "s.pt", ("nir", "red", "blue"), adapt=True)
    assert found.temperature == 2.0
    assert found.module.arguments["in_channels"] == 3
    pair = torch.randn(1, 2, 3, 64, 64)
    as_before = torch.zeros(1, 2, 4, 64, 64)
    as_before[:, :, [3, 2, 0]] = pair
    with torch.inference_mode():
        torch.testing.assert_close(found.module(pair), module(as_before), atol=1e-4, rtol=1e-3)


def test_a_model_of_torchgeo_is_not_fitted(tmp_path):
    module = create_segmenter("tu-test_resnet", "fcsiamdiff", 4, 2)
    save_segmenter(tmp_path / "s.pt", module, CONTRACT, ("a", "b"))
    with pytest.raises(CheckpointError, match="not adapted"):
        load_segmenter(tmp_path / "s.pt", ("nir", "red"), adapt=True)


def old_checkpoint(path, decoder):
    """As versions before fusions had names wrote them: a bare convolution at every level."""
    module = SiameseSegmenter("tu-test_resnet", decoder, 4, 3).eval()
    weights = {
        re.sub(r"^(fuse\.\d+)\.conv\.", r"\1.", key): value
        for key, value in module.state_dict().items()
    }
    for level, width in enumerate(module.encoder.out_channels):
        weights.setdefault(f"fuse.{level}.weight", torch.randn(width, 3 * width, 1, 1))
        weights.setdefault(f"fuse.{level}.bias", torch.randn(width))
    arguments = {"encoder": "tu-test_resnet", "decoder": decoder, "in_channels": 4, "classes": 3}
    contract = CONTRACT.to_dict()
    del contract["scale"]
    data = {"segmenter": arguments, "class_names": ["a", "b", "c"], "state_dict": weights}
    torch.save(data | {"contract": contract}, path)
    return module


@pytest.mark.parametrize("decoder", ["unet", "fpn", "deeplabv3plus"])
def test_a_segmenter_from_before_fusions_had_names_still_loads(decoder, tmp_path):
    module = old_checkpoint(tmp_path / "old.pt", decoder)
    found = load_segmenter(tmp_path / "old.pt")
    assert found.module.arguments["fusion"] == "concat_difference"
    assert found.temperature == 1.0
    pair = torch.randn(1, 2, 4, 64, 64)
    with torch.inference_mode():
        assert torch.equal(found.module(pair), module(pair))


def test_names_of_classes_are_counted(tmp_path):
    module = SiameseSegmenter("tu-test_resnet", "fpn", 4, 3)
    with pytest.raises(InputError, match=r"class_names: got \('a', 'b'\); allowed: 3 names"):
        save_segmenter(tmp_path / "s.pt", module, CONTRACT, ("a", "b"))
