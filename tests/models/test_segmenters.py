"""Every decoder with every fusion lives: forward, backward, save, load, predict."""

import math

import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.mapping.tilewise import Predictor
from rscontrast.models import (
    SiameseSegmenter,
    create_encoder,
    create_segmenter,
    load_segmenter,
    save_segmenter,
)
from rscontrast.models.decoders import DECODERS
from rscontrast.models.external import EXTERNALS
from rscontrast.models.fusion import FUSIONS
from tests.sample_world import CONTRACT

CLASSES = ("background", "no damage", "minor", "major", "destroyed")


def tiny(decoder):
    """The smallest encoder that fits."""
    return "tu-test_vit" if decoder == "dpt" else "tu-test_resnet"


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_with_every_fusion(decoder, fusion, tmp_path):
    model = SiameseSegmenter(tiny(decoder), decoder, 4, 5, fusion)
    pair = torch.randn(2, 2, 4, 64, 64, requires_grad=True)
    target = torch.randint(5, (2, 64, 64))
    torch.nn.functional.cross_entropy(model(pair), target).backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name not in model.idle), name
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    pre, post = pair.grad.abs().sum(dim=(0, 2, 3, 4))
    assert post > 0
    assert (pre > 0) == (fusion != "post")

    save_segmenter(tmp_path / "s.pt", model, CONTRACT, CLASSES)
    found = load_segmenter(tmp_path / "s.pt")
    pair = pair.detach()
    with torch.inference_mode():
        logits = model.eval()(pair)
        assert torch.equal(found.module(pair), logits)
        swapped = model(pair.flip(1))
        assert torch.equal(logits, swapped) == (fusion == "difference")
    predictor = Predictor(found, patch_size=64, device="cpu")
    classes = predictor._classify(pair, torch.ones(2, 2, 64, 64, dtype=torch.bool))
    assert classes.shape == (2, 5, 64, 64)
    assert abs(classes.sum(axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize(
    ("decoder", "encoder", "bands", "classes"),
    [
        ("fcsiamconc", "tu-test_resnet", 4, 5),
        ("fcsiamdiff", "tu-test_resnet", 4, 5),
        ("changevit", "tu-test_vit", 4, 5),
        ("changestar", "resnet18", 3, 2),
        ("btc", "swin_tiny", 3, 3),
    ],
)
def test_change_models_of_torchgeo_are_segmenters_too(decoder, encoder, bands, classes, tmp_path):
    model = create_segmenter(encoder, decoder, bands, classes)
    pair = torch.randn(2, 2, bands, 40, 64, requires_grad=True)
    logits = model(pair)
    assert logits.shape == (2, classes, 40, 64)
    logits.square().sum().backward()
    trained = [p for name, p in model.named_parameters() if name not in model.idle]
    assert all(torch.isfinite(p.grad).all() for p in trained)
    assert (pair.grad.abs().sum(dim=(0, 2, 3, 4)) > 0).all()
    contract = CONTRACT.adapted(CONTRACT.bands[:bands])
    save_segmenter(tmp_path / "s.pt", model, contract, CLASSES[:classes])
    found = load_segmenter(tmp_path / "s.pt")
    pair = pair.detach()
    with torch.inference_mode():
        assert torch.equal(found.module(pair), model.eval()(pair))


def test_a_change_model_says_what_the_class_of_torchgeo_says():
    model = create_segmenter("tu-test_resnet", "fcsiamdiff", 4, 5).eval()
    pair = torch.randn(2, 2, 4, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(pair), model.model(pair))
    star = create_segmenter("resnet18", "changestar", 3, 2).eval()
    pair = torch.randn(2, 2, 3, 64, 64)
    with torch.inference_mode():
        change = star.probabilities(star(pair))[:, 1:]
        torch.testing.assert_close(change, star.model(pair)["change_prob"])


@pytest.mark.parametrize("decoder", ["unet", "pan", "dpt", "deeplabv3"])
def test_logits_are_those_of_smp_where_one_date_is_read(decoder):
    """Post-only with no fusion is the model of SMP on the second date."""
    ours = SiameseSegmenter(tiny(decoder), decoder, 4, 5, "post").eval()
    options = {"decoder_readout": "ignore", "dynamic_img_size": True, "num_classes": 0}
    theirs = DECODERS[decoder].make(
        encoder_name=tiny(decoder), encoder_weights=None, in_channels=4, classes=5,
        **(options if decoder == "dpt" else {}),
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    pair = torch.randn(2, 2, 4, 128, 128)
    with torch.inference_mode():
        assert torch.equal(ours(pair), theirs(pair[:, 1]))


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (33, 31), (64, 65)])
def test_any_size_is_continued_by_its_mirror_image_and_cropped(size):
    model = SiameseSegmenter("tu-test_resnet", "unet", 4, 5).eval()
    pair = torch.randn(2, 2, 4, *size)
    height, width = (-(-side // 32) * 32 for side in size)

    def index(side, length):
        """Where a pixel of the longer row comes from: mirrored, or the last one."""
        mirror = length - side < side
        return [i if i < side else 2 * side - 2 - i if mirror else side - 1 for i in range(length)]

    rows, cols = index(size[0], height), index(size[1], width)
    longer = pair[..., rows, :][..., cols]
    with torch.inference_mode():
        logits = model(pair)
        assert logits.shape == (2, 5, *size)
        assert torch.equal(logits, model.classify(longer)[..., : size[0], : size[1]])


@pytest.mark.parametrize("decoder", ["unet", "pan", "dpt"])
def test_a_size_that_fits_is_not_padded(decoder):
    model = SiameseSegmenter(tiny(decoder), decoder, 2, 2).eval()
    pair = torch.randn(1, 2, 2, 128, 160)
    with torch.inference_mode():
        assert torch.equal(model(pair), model.classify(pair))


def test_pan_takes_small_images_too():
    model = SiameseSegmenter("tu-test_resnet", "pan", 2, 2).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 2, 2, 20, 90)).shape == (1, 2, 20, 90)


@pytest.mark.parametrize("bands", [1, 2, 13])
@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_convnext", "mit_b0"])
def test_any_number_of_bands_and_encoders_of_either_library(encoder, bands):
    model = SiameseSegmenter(encoder, "fpn", bands, 2).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 2, bands, 32, 32)).shape == (1, 2, 32, 32)


def test_a_windowed_transformer_takes_other_sizes_than_its_own():
    model = SiameseSegmenter("tu-swin_tiny_patch4_window7_224", "fpn", 4, 2).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 2, 4, 40, 64)).shape == (1, 2, 40, 64)


@pytest.mark.parametrize(
    ("encoder", "decoder", "remedy"),
    [
        ("mit_b0", "linknet", "resnet18, not mit_b"),
        ("mit_b0", "unetplusplus", "resnet18, not mit_b"),
        ("densenet121", "deeplabv3", "can be dilated, such as resnet18"),
        ("densenet121", "pan", "can be dilated, such as resnet18"),
        ("tu-swin_tiny_patch4_window7_224", "deeplabv3plus", "can be dilated"),
        ("resnet18", "dpt", "tu-vit_tiny_patch16_224"),
        ("tu-resnet18", "dpt", "tu-vit_tiny_patch16_224"),
        ("tu-test_vit", "unet", "such as resnet18"),
        ("tu-vit_small_patch14_dinov2", "dpt", "patches of 8 or 16"),
        ("resnet18", "changevit", "tu-vit_tiny_patch16_224"),
        ("resnet18", "btc", "swin_tiny"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_with_a_remedy(encoder, decoder, remedy):
    with pytest.raises(InputError, match=f"encoder: got '{encoder}'; allowed: .*{remedy}"):
        create_segmenter(encoder, decoder, 3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": "unett"}, "decoder: got 'unett'.*did you mean 'unet'"),
        ({"fusion": "sum"}, "fusion: got 'sum'; allowed: one of attention, concat"),
        ({"heads": "three"}, "heads: got 'three'"),
        ({"heads": "two", "classes": 2}, "classes: got 2; allowed: 3 or more"),
        ({"decoder": "fcsiamdiff", "fusion": "concat"}, "fusion: got 'concat'; allowed: the def"),
        ({"decoder": "btc"}, "in_channels: got 4; allowed: 3 with btc"),
        ({"decoder": "changestar", "in_channels": 3}, "classes: got 5; allowed: 2 with changest"),
        ({"in_channels": 0}, "in_channels: got 0"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    given = {"encoder": "resnet18", "decoder": "unet", "in_channels": 4, "classes": 5}
    with pytest.raises(InputError, match=message):
        create_segmenter(**given | change)


def test_names_of_decoders_are_of_one_kind_only():
    assert not set(DECODERS) & set(EXTERNALS)
    assert len(DECODERS) == 13


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_decoder_reads_the_levels_that_its_entry_lists(decoder):
    model = SiameseSegmenter(tiny(decoder), decoder, 4, 2, "post").eval()
    side = model.least
    with torch.inference_mode():
        features = model.encoder(torch.randn(2, 4, side, side))
    features = features[0] if isinstance(features, tuple) else features
    features = [level.clone().requires_grad_() for level in features]
    logits = model.segmentation_head(model._decode(features))
    grads = torch.autograd.grad(logits.sum(), features, allow_unused=True)
    read = tuple(level for level, grad in enumerate(grads) if grad is not None)
    assert read == DECODERS[decoder].reads


def test_stages_that_a_decoder_does_not_read_stay_frozen():
    model = SiameseSegmenter("resnet18", "pspnet", 4, 2)
    assert any(name.startswith("encoder.layer4") for name in model.idle)
    for frozen in (True, False):
        model.freeze_encoder(frozen)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert any(name.startswith("encoder.") for name in trained) != frozen
        assert not trained & model.idle


@pytest.mark.parametrize("decoder", ["unet", "pspnet", "dpt", "fcsiamconc", "deeplabv3"])
def test_every_model_starts_from_an_encoder_of_ours(decoder):
    encoder = create_encoder(tiny(decoder), 4)
    model = create_segmenter(tiny(decoder), decoder, 4, 3)
    model.start_from(encoder)
    weights, own = encoder.state_dict(), model.encoder.state_dict()
    assert len(own) > 10
    assert all(torch.equal(own[key], weights[key]) for key in own)


def test_start_from_refuses_an_encoder_of_other_bands():
    model = create_segmenter("tu-test_resnet", "unet", 4, 3)
    with pytest.raises(ValueError, match="weights do not fit"):
        model.start_from(create_encoder("tu-test_resnet", 3))


class TestProbabilities:
    def oracle(self, logits, heads, temperature):
        """Pixel by pixel, with plain floats."""
        out = torch.empty_like(logits)
        for index in range(logits.shape[0]):
            z = [value / temperature for value in logits[index].tolist()]
            if heads == "one":
                total = sum(math.exp(v) for v in z)
                found = [math.exp(v) / total for v in z]
            else:
                building = 1 / (1 + math.exp(-z[0]))
                total = sum(math.exp(v) for v in z[1:])
                found = [1 - building, *(building * math.exp(v) / total for v in z[1:])]
            out[index] = torch.tensor(found, dtype=out.dtype)
        return out

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
    @pytest.mark.parametrize("heads", ["one", "two"])
    def test_equal_the_slow_ones(self, heads, temperature):
        model = SiameseSegmenter("tu-test_resnet", "fpn", 4, 5, heads=heads)
        model.temperature = temperature
        logits = torch.randn(6, 5, dtype=torch.float64) * 4
        found = model.probabilities(logits[:, :, None, None])[..., 0, 0]
        torch.testing.assert_close(found, self.oracle(logits, heads, temperature))

    @pytest.mark.parametrize("heads", ["one", "two"])
    def test_are_finite_far_out_and_keep_float32_under_half_precision(self, heads):
        model = SiameseSegmenter("tu-test_resnet", "fpn", 4, 5, heads=heads)
        logits = torch.tensor([300.0, -300, 0, 300, -300]).view(1, 5, 1, 1)
        assert torch.isfinite(model.log_probabilities(logits)).all()
        assert model.probabilities(logits.bfloat16()).dtype == torch.float32

    @pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
    def test_need_a_temperature_above_0(self, temperature):
        model = SiameseSegmenter("tu-test_resnet", "fpn", 4, 5)
        with pytest.raises(InputError, match="temperature"):
            model.temperature = temperature

    def test_a_checkpoint_keeps_heads_fusion_and_temperature(self, tmp_path):
        model = SiameseSegmenter("tu-test_resnet", "fpn", 4, 5, "attention", "two")
        model.temperature = 1.7
        save_segmenter(tmp_path / "s.pt", model, CONTRACT, CLASSES)
        found = load_segmenter(tmp_path / "s.pt")
        assert found.temperature == found.module.temperature == 1.7
        assert found.module.arguments == model.arguments
        assert found.class_names == CLASSES
        logits = torch.randn(1, 5, 2, 2)
        assert torch.equal(found.module.probabilities(logits), model.probabilities(logits))
