"""What is exported says what the model says, in sizes that were not traced."""

import json
import re

import numpy as np
import onnxruntime
import pytest
import torch

from rscontrast.augment import Normalise
from rscontrast.errors import CheckpointError, InputError, WriteError
from rscontrast.models import SiameseSegmenter, load_segmenter, save_segmenter
from rscontrast.models.export import KEY, export
from tests.sample_world import BANDS, CONTRACT

CLASSES = ("background", "no damage", "minor", "major", "destroyed")


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    def make(encoder, decoder, **arguments):
        torch.manual_seed(0)
        module = SiameseSegmenter(encoder, decoder, 4, 5, **arguments).eval()
        for head in module.segmentation_head.parameters():
            head.data.mul_(4)  # else all probabilities are about alike
        module.temperature = 1.5
        path = tmp_path_factory.mktemp("model") / "segmenter.pt"
        save_segmenter(path, module, CONTRACT, CLASSES)
        return path

    return make


def run_onnx(path, pair):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"pair": pair.numpy()})
    return found, session.get_modelmeta().custom_metadata_map[KEY]


def run_torch(path, pair):
    extra = {KEY: ""}
    program = torch.export.load(path, extra_files=extra)
    with torch.inference_mode():
        return program.module()(pair).numpy(), extra[KEY]


RUN = {"onnx": (run_onnx, ".onnx"), "torch": (run_torch, ".pt2")}


@pytest.mark.parametrize(
    ("encoder", "decoder", "fusion", "kind"),
    [
        # A program of torch is also what ONNX is made of: each model is traced once.
        pytest.param("resnet18", "unet", "concat_difference", "onnx", marks=pytest.mark.slow),
        pytest.param("tu-test_vit", "dpt", "attention", "torch", marks=pytest.mark.slow),
    ],
)
def test_an_export_equals_the_model_on_other_sizes(encoder, decoder, fusion, kind, save, tmp_path):
    checkpoint = save(encoder, decoder, fusion=fusion, heads="two")
    run, suffix = RUN[kind]
    path = export(checkpoint, tmp_path / f"m{suffix}", kind, normalise=True)
    segmenter = load_segmenter(checkpoint)
    for count, height, width in ((1, 64, 96), (3, 160, 160)):
        reflectance = torch.rand(count, 2, 4, height, width)
        valid = torch.rand(count, 2, height, width) > 0.1
        holes = reflectance.masked_fill(~valid[:, :, None], torch.nan)
        found, about = run(path, holes)
        with torch.inference_mode():
            logits = segmenter.module(Normalise(CONTRACT)(reflectance, valid))
            want = segmenter.module.probabilities(logits).numpy()
        assert want.std() > 0.01
        assert abs(found - want).max() < 1e-4
        assert abs(found.sum(axis=1) - 1).max() < 1e-5
    assert json.loads(about) == {
        "contract": CONTRACT.to_dict(),
        "class_names": list(CLASSES),
        "normalise": True,
        "output": "probabilities",
        "temperature": 1.5,
        "heads": "two",
    }


def test_normalisation_and_probabilities_can_stay_outside_and_a_size_can_be_fixed(save, tmp_path):
    checkpoint = save("tu-test_resnet", "fpn")
    options = {"normalise": False, "output": "logits", "size": 64}
    path = export(checkpoint, tmp_path / "m.pt2", "torch", **options)
    pair = torch.randn(1, 2, len(BANDS), 64, 64)
    found, about = run_torch(path, pair)
    with torch.inference_mode():
        want = load_segmenter(checkpoint).module(pair).numpy()
    np.testing.assert_allclose(found, want, atol=1e-4)
    assert not json.loads(about)["normalise"]
    with pytest.raises(AssertionError, match="Guard failed"):
        run_torch(path, torch.randn(1, 2, 4, 96, 64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m.onnx", "tflite"), "format: got 'tflite'; allowed: one of onnx, torch"),
        (("m.pt2", "onnx"), r"out: got '.*m\.pt2'; allowed: a file that ends in \.onnx"),
    ],
)
def test_bad_names_are_refused(arguments, message, save, tmp_path):
    with pytest.raises(InputError, match=message):
        export("none.pt", tmp_path / arguments[0], arguments[1], normalise=True)


def test_bad_sizes_outputs_and_files_are_refused(save, tmp_path):
    checkpoint = save("tu-test_resnet", "fpn")
    out = tmp_path / "m.pt2"
    with pytest.raises(InputError, match="size: got 33; allowed: a multiple of 32"):
        export(checkpoint, out, "torch", normalise=True, size=33)
    with pytest.raises(InputError, match="output: got 'classes'"):
        export(checkpoint, out, "torch", normalise=True, output="classes")
    with pytest.raises(CheckpointError, match=re.escape("none.pt: no such file")):
        export("none.pt", out, "torch", normalise=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError):
        export(checkpoint, tmp_path / "file" / "m.pt2", "torch", normalise=True, size=32)
    assert not out.exists()
