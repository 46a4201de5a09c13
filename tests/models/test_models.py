"""Segmenters live in both branches; checkpoints keep every bit and refuse what is not theirs."""

import pytest
import torch

from rscontrast.errors import BandError, CheckpointError, InputError
from rscontrast.models import (
    SiameseSegmenter,
    create_encoder,
    load_encoder,
    load_segmenter,
    save_encoder,
    save_segmenter,
)
from rscontrast.models.decoders import DECODERS
from tests.sample_world import BANDS, CONTRACT


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_every_decoder_sees_both_dates(decoder):
    torch.manual_seed(0)
    encoder = "tu-test_vit" if decoder == "dpt" else "tu-test_resnet"
    model = SiameseSegmenter(encoder, decoder, 4, 5).eval()
    pair = torch.randn(2, 2, 4, 128, 128)
    with torch.inference_mode():
        logits = model(pair)
        assert logits.shape == (2, 5, 128, 128)
        for date in (0, 1):
            other = pair.clone()
            other[0, date] = torch.randn(4, 128, 128)
            moved = model(other)
            assert (moved[0] - logits[0]).abs().max() > 1e-4 * logits.abs().max()
            torch.testing.assert_close(moved[1], logits[1])  # and no neighbour in the batch
        swapped = model(pair.flip(1))
    assert not torch.allclose(swapped, logits, atol=1e-4)  # the order of the dates counts


@pytest.mark.parametrize("name", ["resnet18", "tu-resnet10t"])
def test_an_encoder_comes_back_bit_for_bit(name, tmp_path):
    encoder = create_encoder(name, 4)
    save_encoder(tmp_path / "encoder.pt", encoder, name, CONTRACT)
    found = load_encoder(tmp_path / "encoder.pt", BANDS)
    assert found.name == name
    assert found.contract == CONTRACT
    assert not found.module.training
    saved, read = encoder.state_dict(), found.module.state_dict()
    assert list(saved) == list(read)
    assert all(torch.equal(saved[key], read[key]) for key in saved)


def segmenter(path):
    arguments = {"encoder": "tu-resnet10t", "decoder": "unet", "in_channels": 4, "classes": 3}
    module = SiameseSegmenter(**arguments)
    save_segmenter(path, module, CONTRACT, ("a", "b", "c"))
    return module


def test_a_segmenter_comes_back_bit_for_bit(tmp_path):
    module = segmenter(tmp_path / "segmenter.pt").eval()
    found = load_segmenter(tmp_path / "segmenter.pt", BANDS)
    assert found.class_names == ("a", "b", "c")
    pair = torch.randn(1, 2, 4, 64, 64)
    with torch.inference_mode():
        assert torch.equal(found.module(pair), module(pair))


@pytest.mark.parametrize(
    "bands", [("blue", "green", "nir", "red"), ("blue",), ("a", "b", "c", "d")]
)
def test_other_bands_or_another_order_are_refused_with_both_lists(bands, tmp_path):
    save_encoder(tmp_path / "e.pt", create_encoder("resnet18", 4), "resnet18", CONTRACT)
    segmenter(tmp_path / "s.pt")
    for load, name in ((load_encoder, "e.pt"), (load_segmenter, "s.pt")):
        with pytest.raises(BandError) as error:
            load(tmp_path / name, bands)
        assert str(bands) in str(error.value)
        assert str(BANDS) in str(error.value)


@pytest.mark.parametrize("load", [load_encoder, load_segmenter])
@pytest.mark.parametrize("what", ["missing", "truncated", "text", "empty", "foreign", "other kind"])
def test_what_is_no_checkpoint_is_named(load, what, tmp_path):
    path = tmp_path / "file.pt"
    own, other = ("e", "s") if load is load_encoder else ("s", "e")
    save_encoder(tmp_path / "e", create_encoder("resnet18", 4), "resnet18", CONTRACT)
    segmenter(tmp_path / "s")
    if what == "truncated":
        path.write_bytes((tmp_path / own).read_bytes()[:-1000])
    elif what in ("text", "empty"):
        path.write_text("no checkpoint" if what == "text" else "")
    elif what == "foreign":
        torch.save({"state_dict": {}}, path)
    elif what == "other kind":
        path.write_bytes((tmp_path / other).read_bytes())
    with pytest.raises(CheckpointError, match=r"file\.pt: "):
        load(path)


def test_bad_names_and_numbers_are_refused():
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        create_encoder("resnet-18", 4)
    with pytest.raises(InputError, match="encoder: got 'tu-resnot18'"):
        create_encoder("tu-resnot18", 4)
    with pytest.raises(InputError, match="in_channels: got 0"):
        create_encoder("resnet18", 0)
    with pytest.raises(InputError, match=r"decoder: got 'unett'.*did you mean 'unet'"):
        SiameseSegmenter("resnet18", "unett", 4, 5)
    with pytest.raises(InputError, match="classes: got 1"):
        SiameseSegmenter("resnet18", "unet", 4, 1)
