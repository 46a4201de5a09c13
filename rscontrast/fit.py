"""One training run: a task and its data in, a whole checkpoint and a record of the run out."""

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

import rscontrast
from rscontrast.atomic import atomic_path, write_text
from rscontrast.errors import CheckpointError, InputError, TrainingError, choose, whole
from rscontrast.models.checkpoint import read_checkpoint
from rscontrast.models.device import torch_device
from rscontrast.types import PathOrStr

type Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
"""Of Lightning: plain, or mixed where the machine is fast at it."""

PRECISIONS: tuple[Precision, ...] = ("32-true", "16-mixed", "bf16-mixed")


RULES = "rules"
"""Key of a checkpoint under which stands what a run that goes on must share."""


class KeepEpoch(Callback):
    """Writes what the last finished epoch gave, and what the run needs to go on from there."""

    def __init__(
        self, save: Callable[[Path], None], path: Path, state: Path, rules: Mapping[str, Any] | None
    ) -> None:
        """Take what writes a checkpoint and both names; None: the run cannot go on."""
        self.save, self.path, self.state, self.rules = save, path, state, rules

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write both, each whole or not at all."""
        self.save(self.path)
        if self.rules is not None:
            with atomic_path(self.state) as tmp:
                trainer.save_checkpoint(tmp)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say of what run it is."""
        checkpoint[RULES] = self.rules


def fit(
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    out: Path,
    save: Callable[[Path], None],
    epochs: int,
    device: str,
    precision: Precision,
    progress: bool,
    accumulate: int = 1,
    resume: PathOrStr | None = None,
    rules: Callable[[], Mapping[str, Any]] | None = None,
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
        accumulate: batches of one optimiser step.
        resume: what an earlier run of the same task and data left beside ``out``.
        rules: tells what the data is and how it is drawn, once ``data`` is set up: a run goes on
            only with the same. None: what is needed to go on is not kept.

    Raises:
        InputError: an argument out of range, or ``resume`` is of a run of others.
        CheckpointError: ``resume`` is no state of a run.
        TrainingError: the loss is not finite, or not one step was made.
        WriteError: the disk does not take the checkpoint.
        KeyboardInterrupt: Ctrl-C.
    """
    whole("epochs", epochs)
    partial = out.with_name(f"{out.stem}.partial{out.suffix}")
    state = out.with_name(f"{out.stem}.resume.ckpt")
    whole("accumulate", accumulate)
    choose("precision", precision, PRECISIONS)
    theirs = None if resume is None else _rules_of(resume)
    data.setup("fit")  # which ours do once: it says whether there is something to validate on
    own = None
    if rules is not None:
        run = {"epochs": epochs, "accumulate": accumulate, "precision": precision}
        own = _plain({"task": dict(task.hparams)} | run | dict(rules()))
    if own is not None and theirs is not None:
        _require_same(own, theirs, str(resume))
    with _quiet():
        trainer = pl.Trainer(
            accelerator="gpu" if torch_device(device).type == "cuda" else "cpu",
            devices=1,
            precision=precision,
            max_epochs=epochs,
            accumulate_grad_batches=accumulate,
            callbacks=[KeepEpoch(save, partial, state, own)],
            limit_val_batches=0 if getattr(data, "val_dataset", None) is None else 1.0,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
        )
        try:
            trainer.fit(task, datamodule=data, ckpt_path=None if resume is None else str(resume))
        except SystemExit as error:
            # Lightning answers Ctrl-C by leaving the process; here it is an exception like any.
            raise KeyboardInterrupt from error
    if trainer.global_step == 0:
        raise TrainingError("not one step was made: raise length or lower batch_size")
    save(out)
    write_text(out.with_suffix(".json"), json.dumps(_record(task, data, trainer), indent=2))
    for kept in (partial, state):
        kept.unlink(missing_ok=True)


def _rules_of(resume: PathOrStr) -> Mapping[str, Any]:
    """What the run was whose state this is."""
    found = read_checkpoint(resume, "unfinished run")
    if not {"loops", "optimizer_states"} <= set(found) or not found.get(RULES):
        raise CheckpointError(f"{resume}: no state of a run; name a .resume.ckpt")
    rules: Mapping[str, Any] = found[RULES]
    return rules


def _require_same(own: Mapping[str, Any], theirs: Mapping[str, Any], resume: str) -> None:
    """Refuse to go on with a run of another kind."""
    mine, other = ({**rules, **rules["task"]} for rules in (own, theirs))
    names = sorted((mine.keys() | other.keys()) - {"task"})
    unlike = [name for name in names if mine.get(name) != other.get(name)]
    if unlike:
        allowed = f"a run of the same {', '.join(unlike)}: it had {other.get(unlike[0])!r}"
        raise InputError("resume", resume, allowed)


def _plain(rules: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them: equal where they are written alike, and safe in a checkpoint."""
    found: dict[str, Any] = json.loads(json.dumps(rules, default=str))
    return found


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
