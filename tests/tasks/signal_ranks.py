"""Two ranks that collect signals: ``python -m tests.tasks.signal_ranks FOLDER``.

A process of its own: ranks are forks, and a process that has computed must not fork.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rscontrast.tasks.signals import Signals

MANY, FEW = "5,4;7", ";9"
"""Sizes of the batches of rank 0; of rank 1."""


def pairs(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    view1 = torch.randn(count, 6, generator=generator) + 0.5
    return view1, view1 + 0.3 * torch.randn(count, 6, generator=generator)


def rank_batches(counts, rank):
    sizes = [int(size) for size in counts.split(";")[rank].split(",") if size]
    for number, size in enumerate(sizes):
        found = {"share": torch.tensor(0.1 * number + rank), f"only{rank}": torch.tensor(2.0)}
        yield *pairs(size, seed=10 * rank + number), None, found


def work(rank, folder):
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    signals, found = Signals(), {}
    for counts in (MANY, FEW):
        for batch in rank_batches(counts, rank):
            signals.update(*batch)
        found[counts] = signals.compute()
        signals.reset()
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.start_processes(work, args=(sys.argv[1],), nprocs=2, start_method="fork")
