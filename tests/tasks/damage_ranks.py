"""Fine-tuning on two ranks, and on one: ``python -m tests.tasks.damage_ranks FOLDER``.

A process of its own: ranks are forks, and a process that has computed must not fork.
"""

import sys
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader

from rscontrast.tasks import DamageSegmentation
from tests.sample_world import trainer
from tests.tasks.test_damage import Pairs


class Noted(DamageSegmentation):
    """Notes what each validation finds; the first one is of the weights it starts with."""

    found = ()

    def _log_scores(self, stage, scores):
        self.found = (*self.found, {k: v.item() for k, v in scores.compute().items()})
        super()._log_scores(stage, scores)


class Keep(lightning.Callback):
    """Writes what a rank ends with."""

    def __init__(self, start):
        self.start, self.temperatures, self.encoders = start, [], []

    def on_validation_end(self, trainer, pl_module):
        self.temperatures.append(pl_module.model.temperature)
        weights = pl_module.model.encoder.state_dict()
        self.encoders.append({key: value.clone() for key, value in weights.items()})

    def on_train_end(self, trainer, pl_module):
        kept = {
            "scores": list(pl_module.found), "temperatures": self.temperatures,
            "encoders": self.encoders, "weights": pl_module.model.state_dict(),
        }  # fmt: skip
        torch.save(kept, f"{self.start}{pl_module.global_rank}.pt")


def train(folder, world):
    torch.manual_seed(0)
    task = Noted("tu-test_resnet", heads="two", loss="building_grade+dice", unfreeze_epoch=1)
    several = {"strategy": "ddp_fork"} if world > 1 else {}
    run = trainer(
        folder, max_epochs=2, devices=world, limit_val_batches=1.0, num_sanity_val_steps=-1,
        callbacks=[Keep(folder / str(world))], **several,
    )  # fmt: skip
    run.fit(task, *(DataLoader(Pairs(8), batch_size=4 // world) for _ in "tv"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), 2)
    train(Path(sys.argv[1]), 1)
