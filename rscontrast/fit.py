"""One training run: a task and its data in, a whole checkpoint and a record of the run out."""

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

import rscontrast
from rscontrast.atomic import write_text
from rscontrast.errors import TrainingError, choose, whole
from rscontrast.models.device import torch_device

type Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
"""Of Lightning: plain, or mixed where the machine is fast at it."""

PRECISIONS: tuple[Precision, ...] = ("32-true", "16-mixed", "bf16-mixed")


class KeepEpoch(Callback):
    """Writes what the last finished epoch gave."""

    def __init__(self, save: Callable[[Path], None], path: Path) -> None:
        """Take what writes a checkpoint, and the name that it is written under."""
        self.save, self.path = save, path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write it."""
        self.save(self.path)


def fit(
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    out: Path,
    save: Callable[[Path], None],
    epochs: int,
    device: str,
    precision: Precision,
    progress: bool,
) -> None:
    """Train; the final name appears at the end, until then the last epoch stands beside it.

    Args:
        task: what is trained.
        data: what it is trained on.
        out: final name of the checkpoint; a record of the run gets the same name with ``.json``.
        save: writes a checkpoint of the task under a name.
        epochs: 1 or more.
        device: "auto", "cpu" or "gpu".
        precision: of Lightning.
        progress: show a bar.

    Raises:
        InputError: an argument out of range.
        TrainingError: the loss is not finite, or not one step was made.
        WriteError: the disk does not take the checkpoint.
        KeyboardInterrupt: Ctrl-C.
    """
    whole("epochs", epochs)
    partial = out.with_name(f"{out.stem}.partial{out.suffix}")
    data.setup("fit")  # which ours do once: it says whether there is something to validate on
    with _quiet():
        trainer = pl.Trainer(
            accelerator="gpu" if torch_device(device).type == "cuda" else "cpu",
            devices=1,
            precision=choose("precision", precision, PRECISIONS),
            max_epochs=epochs,
            callbacks=[KeepEpoch(save, partial)],
            limit_val_batches=0 if getattr(data, "val_dataset", None) is None else 1.0,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
        )
        try:
            trainer.fit(task, datamodule=data)
        except SystemExit as error:
            # Lightning answers Ctrl-C by leaving the process; here it is an exception like any.
            raise KeyboardInterrupt from error
    if trainer.global_step == 0:
        raise TrainingError("not one step was made: raise length or lower batch_size")
    save(out)
    write_text(out.with_suffix(".json"), json.dumps(_record(task, data, trainer), indent=2))
    partial.unlink(missing_ok=True)


def _record(
    task: pl.LightningModule, data: pl.LightningDataModule, trainer: pl.Trainer
) -> dict[str, Any]:
    """What the run was and where it ended, to stand beside the checkpoint."""
    last = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return {
        "task": type(task).__name__,
        "hyperparameters": dict(task.hparams),
        "steps": trainer.global_step,
        # Of the bands: mean, deviation, percentiles, and over how many pixels and patches.
        "statistics": getattr(data, "statistics", None),
        # With min_valid: draws that were trained on, and patches that were read for them.
        "redraws": getattr(data, "redraws", None),
        # JSON has no NaN: a mean over no determined false negative is null.
        "last": {name: value if math.isfinite(value) else None for name, value in last.items()},
        "versions": {"rscontrast": rscontrast.__version__, "torch": torch.__version__},
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Lightning says of itself, and a warning that is meant for it."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # Reading on the main process is the default on purpose: see num_workers.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        # Lightning 2.6 asks torch 2.15 in a deprecated way.
        warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\).*")
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
