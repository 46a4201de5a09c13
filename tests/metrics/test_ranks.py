"""Two ranks score as one process does."""

import os
import warnings

import torch
from torch import distributed as dist
from torch import multiprocessing as mp

from rscontrast.metrics import (
    BoundaryIoU,
    BuildingCalibrationError,
    CalibrationError,
    ClassScores,
    ObjectScores,
    XView2Score,
)

METRICS = (
    XView2Score, ClassScores, BoundaryIoU, ObjectScores, CalibrationError, BuildingCalibrationError
)  # fmt: skip


def _scores(rows):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 20, 18, generator=generator)
    truth = torch.randint(-6, 5, (4, 20, 18), generator=generator).clamp(min=0)
    found = {}
    for make in METRICS:
        metric = make()
        metric.update(logits[rows].softmax(1), truth[rows])
        value = metric.compute()
        found[make.__name__] = value if isinstance(value, dict) else {"": value}
    return found


def _rank(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(_scores(slice(1) if rank == 0 else slice(1, 4)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path):
    """Also where one rank has more than the other."""
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    expected = _scores(slice(4))
    assert expected != _scores(slice(1))
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected)
