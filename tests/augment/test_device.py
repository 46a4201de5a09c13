"""On a device: nothing is copied to it in a call, and an autocast around it changes nothing."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rscontrast.augment import Dihedral, PairViews
from rscontrast.augment.named import OPERATIONS
from rscontrast.augment.presets import PRESETS
from tests.augment.test_views import contract

COPIES = {"lift_fresh", "_to_copy", "copy_", "where", "index", "cat", "stack", "masked_scatter"}


class Copies(TorchDispatchMode):
    """What goes from the host to the device "meta", which stands in for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in COPIES and isinstance(out, torch.Tensor) and out.is_meta:
            given = [one for one in args if isinstance(one, torch.Tensor)]
            # A tensor of constants comes to a device as a "fresh" one.
            here = any(one.device.type == "cpu" for one in given)
            if name == "lift_fresh" or here:
                self.found.append(name)
        return out


def test_the_counter_counts():
    with Copies() as copies:
        here = torch.zeros(2, device="meta")
        torch.tensor([1.0, 2.0], device="meta")
        here.new_tensor([1.0])
        torch.ones(2).to("meta")
        here[[1, 0]]
        here.masked_fill(here > 0, 0.0) + 2 * here.clamp(max=1)
    assert copies.found == ["lift_fresh", "lift_fresh", "_to_copy", "lift_fresh"]


ALL = {name: {} for name in OPERATIONS if name != "RegionCutout"}


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_call_copies_nothing_from_the_host(preset):
    settings = {"min_overlap": 0.5, "registration": 2.0, "cutout": 0.3, "operations": ALL}
    views = PairViews(contract(4), 24, preset=preset, **settings)
    batch = {
        "image": torch.rand(3, 2, 4, 60, 50, device="meta"),
        "valid": torch.ones(3, 2, 60, 50, device="meta", dtype=torch.bool),
        "mask": torch.ones(3, 60, 50, device="meta", dtype=torch.long),
        "depth": torch.ones(3, 60, 50, device="meta"),
        "transform": torch.zeros(3, 9, device="meta", dtype=torch.float64),
    }
    views(batch), Dihedral(contract(4))(batch)  # constants are copied once
    with Copies() as copies:
        made = views(batch)
        views(batch, made["params"])
        Dihedral(contract(4))(batch)
    assert copies.found == []


def test_an_autocast_changes_nothing():
    torch.manual_seed(0)
    batch = {"image": torch.rand(4, 2, 4, 40, 40), "valid": torch.rand(4, 2, 40, 40) > 0.2}
    batch["mask"] = torch.zeros(4, 40, 40).long()
    views = PairViews(contract(4, 0.3, 0.2), 32, preset="simclr", operations={"Blur": {"p": 1.0}})
    plain = views(batch)
    turned = Dihedral(contract(4), seed=0)(batch)["image"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views(batch, plain["params"])["image"], plain["image"])
        assert torch.equal(Dihedral(contract(4), seed=0)(batch)["image"], turned)
