"""Steps on two ranks, and on one: ``python -m tests.tasks.method_ranks FOLDER``.

A process of its own: ranks are forks, and a process that has computed must not fork.
"""

import sys
from pathlib import Path

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from rscontrast.tasks import BYOL, MoCo, PixPro, SimCLR
from tests.sample_world import trainer

METHODS = {
    "simclr": (SimCLR, {}),
    "moco": (MoCo, {"queue_size": 24}),
    "byol": (BYOL, {}),
    "pixpro": (PixPro, {"levels": 2}),
}
COMMON = {"model": "tu-resnet10t", "hidden_dim": 16, "output_dim": 8, "optimizer": "sgd", "lr": 0.1}


class Records(list):
    """A list is a dataset to torch."""


def samples(count=16):
    """Pairs; of some a view has no usable pixel, on one rank more than on the other."""
    torch.manual_seed(1)
    images = torch.randn(count, 2, 4, 32, 32)
    valid = torch.ones(count, 2, 32, 32, dtype=torch.bool)
    valid[[0, 4, 9], 1] = False
    places = torch.eye(3).expand(2, 3, 3)
    return Records(
        {"image": i, "valid": v, "view_matrix": places} for i, v in zip(images, valid, strict=True)
    )


class Noting:
    """Loads the batches of its rank, and notes the losses."""

    losses, seen = (), ()

    def _own_keys(self, images):
        self.seen = (*self.seen, images[:, 0, 0, 0].tolist())
        return super()._own_keys(images)

    def train_dataloader(self):
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return DataLoader(
            samples(), batch_size=8 // world, sampler=Order(16, 8 // world, rank, world)
        )

    def val_dataloader(self):
        return []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.losses = (*self.losses, loss.item())
        return loss


def made(name):
    torch.manual_seed(0)
    task, extra = METHODS[name]
    return without_norm(type("Noted", (Noting, task), {})(**(COMMON | extra)))


def without_norm(module):
    """Batch norms by what does not look at the batch."""
    for parent in list(module.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                act = getattr(child, "act", nn.Identity())
                norm = nn.GroupNorm(1, child.num_features)
                norm.requires_grad_(child.weight.requires_grad)  # not in a momentum encoder
                parent.register_module(key, nn.Sequential(norm, act))
    return module


class Order(DistributedSampler):
    """Rank r takes the r-th part of each batch of the whole, as the ranks are gathered."""

    def __init__(self, count, size, rank, world):
        self.own = [
            i
            for start in range(0, count, size * world)
            for i in range(start + rank * size, start + (rank + 1) * size)
        ]

    def __iter__(self):
        return iter(self.own)

    def __len__(self):
        return len(self.own)

    def set_epoch(self, epoch):
        """The same each time."""


def train(folder, name, world):
    """Two steps of 8 samples; what each rank has at their end."""
    module = made(name)
    several = {"strategy": "ddp_fork"} if world > 1 else {}
    keep = Keep(folder / f"{name}{world}")
    run = trainer(
        folder, max_epochs=1, devices=world, use_distributed_sampler=False, callbacks=[keep],
        **several,
    )  # fmt: skip
    run.fit(module)


class Keep(lightning.Callback):
    """Writes what a rank ends with."""

    def __init__(self, start):
        self.start = start

    def on_train_end(self, trainer, pl_module):
        path = self.start.with_name(f"{self.start.name}{pl_module.global_rank}.pt")
        kept = {"state": pl_module.state_dict(), "losses": list(pl_module.losses)}
        kept["logged"] = {k: v.item() for k, v in trainer.callback_metrics.items()}
        torch.save(kept | {"seen": list(pl_module.seen)}, path)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    for world in (2, 1):
        for name in METHODS:
            train(folder, name, world)
