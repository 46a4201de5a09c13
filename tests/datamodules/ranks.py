"""Two ranks that note what they were trained on: ``python -m tests.datamodules.ranks FOLDER``.

They are trained once, with a checkpoint after the first batch, and once more from there.

A process of its own: ranks are forks, and a process that has computed must not fork.
"""

import json
import sys
from pathlib import Path

from rscontrast.datamodules import PairDataModule
from rscontrast.loader import PairLoader
from rscontrast.samplers import EpochSampler
from rscontrast.tasks import SimCLR
from tests.sample_world import BANDS, event_pairs, scenes, trainer

SMALL = {"bands": list(BANDS), "patch_size": 32, "batch_size": 4, "length": 8}


def module(**arguments):
    return PairDataModule(scenes(), event_pairs(), **(SMALL | arguments))


class Noting(SimCLR):
    """Notes where the patches of its batches lie."""

    def on_fit_start(self):
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch["bounds"].tolist())
        return super().training_step(batch, batch_idx)


class Ranks(Noting):
    """Writes what each rank saw."""

    name = "whole"

    def on_train_batch_end(self, *_):
        if self.global_step == 1:
            self.trainer.save_checkpoint(CUT)

    def on_train_epoch_end(self):
        loader = self.trainer.train_dataloader
        assert type(loader) is PairLoader
        assert type(loader.sampler) is EpochSampler
        (FOLDER / f"{self.name}{self.global_rank}.json").write_text(json.dumps(self.seen))


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    CUT = FOLDER / "cut.ckpt"
    for name, path in (("whole", None), ("rest", CUT)):
        task = Ranks(model="tu-resnet10t", hidden_dim=16, output_dim=8)
        task.name = name
        data = module(length=16, statistics_patches=1, batch_size=2)
        run = trainer(FOLDER, max_epochs=1, devices=2, strategy="ddp_fork")
        run.fit(task, datamodule=data, ckpt_path=path)
