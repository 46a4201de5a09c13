"""Two real processes make the step that one makes on the whole batch."""

import os
import subprocess
import sys

import pytest
import torch

from tests.sample_world import ROOT


@pytest.mark.parametrize("name", ["simclr", "moco", "byol"])
def test_two_ranks_equal_one(name, tmp_path):
    """Loss, weights, momentum encoder and queue after two steps, without batch norm."""
    command = [sys.executable, "-m", "tests.tasks.method_ranks", str(tmp_path), name]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=threads)
    assert run.returncode == 0, run.stderr[-3000:]
    first, second, alone = (
        torch.load(tmp_path / f"{name}{part}.pt", weights_only=True) for part in ("20", "21", "10")
    )
    assert len(alone["losses"]) == 2
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert first["losses"] == pytest.approx(second["losses"], rel=1e-6)
    for key, value in alone["state"].items():
        assert torch.equal(first["state"][key], second["state"][key]), key
        torch.testing.assert_close(first["state"][key], value, rtol=1e-4, atol=1e-5)
    if name == "moco":
        assert alone["state"]["queue.pointer"] == 13


def test_fine_tuning_on_two_ranks(tmp_path):
    """Scores and temperature are of all pixels; a staged encoder stays the same on both ranks."""
    command = [sys.executable, "-m", "tests.tasks.damage_ranks", str(tmp_path)]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=threads)
    assert run.returncode == 0, run.stderr[-3000:]
    first, second, alone = (
        torch.load(tmp_path / f"{part}.pt", weights_only=True) for part in ("20", "21", "10")
    )
    for one, other in zip(first["scores"], second["scores"], strict=True):
        assert one == pytest.approx(other, nan_ok=True)
    assert first["scores"][0] == pytest.approx(alone["scores"][0], abs=1e-6, nan_ok=True)
    assert first["temperatures"] == second["temperatures"]
    assert first["temperatures"][0] == pytest.approx(alone["temperatures"][0], rel=1e-5)
    assert first["temperatures"][0] != 1
    for key, value in first["weights"].items():
        if "running" not in key:  # batch norms count the images of their own rank
            assert torch.equal(value, second["weights"][key]), key
    start, frozen, trained = first["encoders"]
    assert all(torch.equal(value, frozen[key]) for key, value in start.items())
    assert any(not torch.equal(value, trained[key]) for key, value in start.items())
