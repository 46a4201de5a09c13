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
