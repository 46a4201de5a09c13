"""A small world of draws that several processes make alike, and a training that notes them.

Run as a script it trains on two ranks: `python -m tests.samplers.draws folder kind ...`. The
ranks are forks of it, so that torch is imported once.
"""

import json
import sys
import warnings
from pathlib import Path

import lightning
import numpy as np
import shapely
import torch
from torch.utils.data import DataLoader, Dataset

from rscontrast.samplers import (
    EpochSampler,
    GriddedPlaceSampler,
    RandomPlaceSampler,
    TemporalPairSampler,
)
from tests.samplers.test_places import Footprints

LENGTH = 37
DAYS = [f"2020-{month:02d}-01" for month in range(1, 9)]


class Echo(Dataset):
    """Gives back what it is asked for."""

    def __getitem__(self, index):
        x, y, (p, q) = index
        return torch.tensor([x.start, y.start, p.start.timestamp(), q.start.timestamp()])


def footprints():
    shapes = [shapely.box(x, 0, x + 1000, 1000) for x in (0, 5000) for _ in DAYS]
    return Footprints(shapes, times=DAYS * 2)


def product(generator=0, **more):
    data = footprints()
    times = TemporalPairSampler(data, generator=generator, **more)
    size = {"size": 10, "length": LENGTH}
    return RandomPlaceSampler(data, roi=times.roi, generator=generator, **size) @ times


def cells():
    """Pairs of a plain grid, said and drawn: for one pair a cell, by default or not, and three."""
    data = footprints()
    grid = GriddedPlaceSampler(data, size=20)
    plain = [grid @ TemporalPairSampler(data, length=n, generator=0) for n in (None, 1, 3)]
    return [(len(one), len(list(one))) for one in plain]


def sampler(kind):
    """One of the ways to draw."""
    if kind == "alone":
        return TemporalPairSampler(footprints(), size=10, length=LENGTH, generator=5)
    if kind == "wrapped":
        return EpochSampler(TemporalPairSampler(footprints(), size=10, length=LENGTH), seed=5)
    if kind == "product":
        return EpochSampler(product(None), seed=5)
    return product()


class Notes(lightning.LightningModule):
    def __init__(self, path):
        super().__init__()
        self.path, self.seen, self.kept = path, [], []
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, _):
        self.seen.append([self.current_epoch, batch.tolist()])
        return self.layer(batch / 1e10).mean()

    def on_train_epoch_end(self):
        self.kept.append(type(self.trainer.train_dataloader.sampler).__name__)

    def on_train_end(self):
        notes = {"seen": self.seen, "kept": self.kept, "cells": cells()}
        Path(f"{self.path}-{self.global_rank}.json").write_text(json.dumps(notes))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def main(folder, *kinds):
    warnings.simplefilter("ignore")
    for kind in kinds:
        trainer = lightning.Trainer(
            accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=2, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        loader = DataLoader(Echo(), batch_size=4, sampler=sampler(kind))
        trainer.fit(Notes(Path(folder, kind)), loader)


def numbers(draws):
    """Draws as rows of numbers."""
    echo = Echo()
    return [tuple(echo[draw].tolist()) for draw in draws]


def as_array(draws):
    return np.array(numbers(draws))


if __name__ == "__main__":
    main(*sys.argv[1:])
