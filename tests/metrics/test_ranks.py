"""Two ranks score as one process does."""

from datetime import timedelta

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


def _rank(_, rank, folder):
    dist.init_process_group(
        "gloo", f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(minutes=4)
    )
    try:
        torch.save(_scores(slice(1) if rank == 0 else slice(1, 4)), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path, monkeypatch):
    """Also where one rank has more than the other. This process is rank 0: imports take long."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    expected = _scores(slice(4))
    other = mp.spawn(_rank, (1, str(tmp_path)), nprocs=1, join=False)
    _rank(0, 0, str(tmp_path))
    other.join()
    assert expected != _scores(slice(1))
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected)
