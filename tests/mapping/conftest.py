"""A small untrained segmenter on disk; its maps are as good as any to test the mapping."""

import pytest
import torch

from rscontrast.mapping import map_pairs
from rscontrast.models import SiameseSegmenter, save_segmenter
from tests.sample_world import CONTRACT, event_pairs, scenes

CLASSES = ("background", "no damage", "minor", "major", "destroyed")
SMALL = {"patch_size": 64, "overlap": 16, "tile_size": 256, "batch_size": 8, "progress": False}


def save(path, change=None):
    torch.manual_seed(0)
    arguments = {
        "encoder": "tu-resnet10t", "decoder": "unet", "in_channels": 4, "classes": len(CLASSES)
    }  # fmt: skip
    module = SiameseSegmenter(**arguments)
    # Untrained logits hardly differ: a wider head makes every class the best somewhere.
    for head in module.segmentation_head.parameters():
        head.data.mul_(20)
    if change is not None:
        change(module)
    save_segmenter(path, module, CONTRACT, CLASSES)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "segmenter.pt")


@pytest.fixture(scope="session")
def mapped(checkpoint, tmp_path_factory):
    """Catalog of both places: one in zone 33, one in zone 32."""
    out = tmp_path_factory.mktemp("maps")
    return map_pairs(scenes(), event_pairs(), checkpoint, out, **SMALL)
