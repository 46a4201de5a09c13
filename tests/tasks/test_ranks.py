"""Two real processes make the step that one makes on the whole batch."""

import os
import subprocess
import sys

import pytest
import torch

from tests.sample_world import ROOT
from tests.tasks.method_ranks import samples


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two ranks, and one process, ended with: by name and by 20, 21, 10."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.tasks.method_ranks", str(folder)]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=threads)
    assert run.returncode == 0, run.stderr[-3000:]
    return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}


@pytest.mark.parametrize("name", ["simclr", "moco", "byol", "pixpro"])
def test_two_ranks_equal_one(name, ranks):
    """Loss, logged or not, weights, momentum encoder and queue, without batch norm."""
    first, second, alone = (ranks[f"{name}{part}"] for part in ("20", "21", "10"))
    assert len(alone["losses"]) == 2
    mean = [sum(pair) / 2 for pair in zip(first["losses"], second["losses"], strict=True)]
    assert mean == pytest.approx(alone["losses"], rel=1e-5)
    if name == "pixpro":  # each rank has its part of the mean
        assert first["losses"] != pytest.approx(second["losses"], rel=1e-3)
    else:
        assert first["losses"] == pytest.approx(second["losses"], rel=1e-6)
    losses = {key: value for key, value in alone["logged"].items() if key.endswith("loss")}
    assert losses
    for found in (first, second):
        assert {key: found["logged"][key] for key in losses} == pytest.approx(losses, rel=1e-4)
    for key, value in alone["state"].items():
        assert torch.equal(first["state"][key], second["state"][key]), key
        torch.testing.assert_close(first["state"][key], value, rtol=1e-4, atol=1e-5)
    if name == "moco":
        assert alone["state"]["queue.pointer"] == 13


def test_ranks_make_the_keys_of_each_others_samples(ranks):
    """Batch norm cannot tell a positive; that the keys return in order is what the above shows."""
    whole = [sample["image"][1, 0, 0, 0].item() for sample in samples()]
    steps = zip(ranks["moco20"]["seen"], ranks["moco21"]["seen"], strict=True)
    for number, (one, two) in enumerate(steps):
        batch = whole[8 * number : 8 * number + 8]
        assert sorted(one + two) == sorted(batch)
        assert set(one) & set(batch[:4])
        assert set(one) & set(batch[4:])
