"""The two stages that train: tables in, a checkpoint out."""

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

import rscontrast
from rscontrast.atomic import write_text
from rscontrast.datamodules import DamageDataModule, PairDataModule
from rscontrast.errors import BandError, InputError, choose
from rscontrast.models.checkpoint import load_encoder, save_encoder, save_segmenter
from rscontrast.tasks import FALSE, DamageSegmentation, SimCLR
from rscontrast.types import PathOrStr

METHODS: dict[str, type[SimCLR]] = {"simclr": SimCLR, "false": FALSE}
"""Name -> task of each self-supervised method."""

type Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
"""Of Lightning: plain, or mixed where the machine is fast at it."""

PRECISIONS: tuple[Precision, ...] = ("32-true", "16-mixed", "bf16-mixed")


def pretrain(
    items: gpd.GeoDataFrame,
    pairs: gpd.GeoDataFrame,
    out: PathOrStr,
    *,
    bands: Sequence[str],
    method: str = "false",
    encoder: str = "resnet18",
    epochs: int = 20,
    patch_size: int = 96,
    view_size: int | None = None,
    batch_size: int = 64,
    length: int = 1024,
    lr: float = 1e-3,
    weights: PathOrStr | None = None,
    method_args: Mapping[str, Any] | None = None,
    views: Mapping[str, Any] | None = None,
    num_workers: int = 0,
    device: str = "auto",
    precision: Precision = "32-true",
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Learn an encoder from temporal pairs, without labels.

    Args:
        items: of :func:`rscontrast.search`.
        pairs: of :func:`rscontrast.pair_items`.
        out: checkpoint to write; TorchGeo's decoders load it too. While training lasts, the
            encoder of the last finished epoch stands beside it, with ``.partial`` in its name.
        bands: asset keys, band names or common names; the channel order.
        method: "simclr" or "false".
        encoder: name of an encoder of segmentation_models_pytorch, or "tu-" and a timm model.
        epochs: passes over ``length`` pairs.
        patch_size: side of a patch, pixels.
        view_size: side of a view, pixels; default: that of the patch.
        batch_size: pairs in a batch.
        length: pairs an epoch.
        lr: peak learning rate.
        weights: checkpoint of an encoder to start from, of the same bands.
        method_args: further arguments of the task, for "false" select, confidence,
            positive_threshold, margin, max_selected, symmetric, start_epoch.
        views: arguments of :class:`rscontrast.augment.PairViews`.
        num_workers: reading processes.
        device: "auto", "cpu" or "gpu".
        precision: of Lightning: "32-true", "bf16-mixed", ...
        seed: of everything that is drawn.
        progress: show a bar.

    Returns:
        path of the checkpoint.

    Raises:
        InputError: an argument out of range or an unknown name.
        BandError: an item, or ``weights``, lacks a band.
        AssetError: a file cannot be read.
        TrainingError: the loss is not finite.
        WriteError: the disk does not take the checkpoint.
    """
    task_class = METHODS[choose("method", method, METHODS)]
    if weights is not None:
        load_encoder(weights, bands)
    pl.seed_everything(seed, verbose=False)
    data = PairDataModule(
        items,
        pairs,
        list(bands),
        patch_size=patch_size,
        view_size=view_size,
        batch_size=batch_size,
        length=length,
        num_workers=num_workers,
        seed=seed,
        views=dict(views or {}),
    )
    arguments = {
        "model": encoder,
        "in_channels": len(bands),
        "weights": weights and str(weights),
        "lr": lr,
    }
    task = _build(task_class, arguments, "method_args", method_args)

    def save(path: Path) -> None:
        if data.contract is not None:
            save_encoder(path, task.model, encoder, data.contract)

    _fit(task, data, Path(out), save, epochs, device, precision, progress)
    return Path(out)


def finetune(
    items: gpd.GeoDataFrame,
    pairs: gpd.GeoDataFrame,
    out: PathOrStr,
    *,
    label: str,
    encoder: PathOrStr,
    bands: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    decoder: str = "unet",
    epochs: int = 20,
    patch_size: int = 96,
    batch_size: int = 16,
    length: int = 256,
    label_share: float = 1.0,
    freeze_encoder: bool = False,
    lr: float = 1e-3,
    num_workers: int = 0,
    device: str = "auto",
    precision: Precision = "32-true",
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Train a Siamese segmenter on labelled pairs.

    Args:
        items: of :func:`rscontrast.search`.
        pairs: of :func:`rscontrast.pair_items`; labels dated within a pair are its labels.
        out: checkpoint to write; as in :func:`pretrain`.
        label: asset key of the label raster.
        encoder: checkpoint of a pretrained encoder (.pt, .pth or .ckpt), or the name of one with
            random weights.
        bands: the channel order; default: that of the checkpoint. Needed for random weights.
        class_names: class i is the i-th; default: ``classification:classes`` of the labels.
        decoder: "unet" or another of :data:`rscontrast.models.decoders.DECODERS`.
        epochs: passes over ``length`` cells.
        patch_size: side of a cell, pixels, a multiple of 32.
        batch_size: cells in a batch.
        length: cells an epoch, half of them with a class other than 0.
        label_share: share (0-1] of the labelled cells that may be used.
        freeze_encoder: train only the decoder.
        lr: peak learning rate.
        num_workers: reading processes.
        device: "auto", "cpu" or "gpu".
        precision: of Lightning: "32-true", "bf16-mixed", ...
        seed: of everything that is drawn.
        progress: show a bar.

    Returns:
        path of the checkpoint.

    Raises:
        InputError, BandError, AssetError, TrainingError, WriteError: as :func:`pretrain`.
        CheckpointError: ``encoder`` is a file, but no encoder of ours.
        GridError: a label lies off the imagery's grid.
    """
    is_file = Path(encoder).suffix in (".pt", ".pth", ".ckpt")
    pretrained = load_encoder(encoder, bands) if is_file else None
    if pretrained is None and bands is None:
        raise InputError("bands", None, "band names, since the encoder has random weights")
    names = list(class_names or label_classes(items, label))
    pl.seed_everything(seed, verbose=False)
    data = DamageDataModule(
        items,
        pairs,
        list(bands or (pretrained.contract.bands if pretrained else ())),
        label,
        len(names),
        patch_size=patch_size,
        batch_size=batch_size,
        length=length,
        label_share=label_share,
        num_workers=num_workers,
        seed=seed,
        contract=None if pretrained is None else pretrained.contract,
    )
    data.setup("fit")
    segmenter: dict[str, Any] = {
        "encoder": str(encoder) if pretrained is None else pretrained.name,
        "decoder": decoder,
        "in_channels": len(data.bands),
        "classes": len(names),
    }
    task = DamageSegmentation(
        model=segmenter["encoder"],
        decoder=decoder,
        in_channels=len(data.bands),
        classes=len(names),
        weights=None if pretrained is None else str(encoder),
        class_weights=data.class_weights,
        freeze_encoder=freeze_encoder,
        lr=lr,
    )

    def save(path: Path) -> None:
        if data.contract is not None:
            save_segmenter(path, task.model, segmenter, data.contract, names)

    _fit(task, data, Path(out), save, epochs, device, precision, progress)
    return Path(out)


def label_classes(items: gpd.GeoDataFrame, label: str) -> list[str]:
    """Class names that the label assets declare, in the order of their values.

    Raises:
        BandError: no item has the asset.
        InputError: it declares no classes, or values other than 0, 1, 2, ...
    """
    assets = [found[label] for found in items["assets"] if label in found]
    if not assets:
        known = sorted({key for found in items["assets"] for key in found})
        raise BandError("label", label, f"an asset of the items: {', '.join(known)}")
    classes = {c["value"]: c.get("name") or c["title"] for a in assets for c in _classes(a)}
    if not classes or sorted(classes) != list(range(len(classes))):
        allowed = "the names of classes 0, 1, 2, ...: the items do not declare them"
        raise InputError("class_names", classes or None, allowed)
    return [classes[value] for value in range(len(classes))]


def _classes(asset: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return asset.get("classification:classes") or ()


def _build(
    task: type[SimCLR], arguments: dict[str, Any], name: str, more: Mapping[str, Any] | None
) -> SimCLR:
    try:
        return task(**arguments, **(more or {}))
    except TypeError as error:
        raise InputError(
            name, dict(more or {}), f"arguments of {task.__name__} ({error})"
        ) from error


class _KeepEpoch(Callback):
    """Writes what the last finished epoch gave."""

    def __init__(self, save: Callable[[Path], None], path: Path) -> None:
        self.save, self.path = save, path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(self.path)


def _fit(
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    out: Path,
    save: Callable[[Path], None],
    epochs: int,
    device: str,
    precision: Precision,
    progress: bool,
) -> None:
    """Train; the final name appears at the end, until then the last epoch stands beside it."""
    if epochs < 1:
        raise InputError("epochs", epochs, "1 or more")
    partial = out.with_name(f"{out.stem}.partial{out.suffix}")
    with _quiet():
        trainer = pl.Trainer(
            accelerator=choose("device", device, ("auto", "cpu", "gpu")),
            devices=1,
            precision=choose("precision", precision, PRECISIONS),
            max_epochs=epochs,
            callbacks=[_KeepEpoch(save, partial)],
            limit_val_batches=0,
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
    save(out)
    write_text(out.with_suffix(".json"), json.dumps(_record(task, trainer), indent=2))
    partial.unlink(missing_ok=True)


def _record(task: pl.LightningModule, trainer: pl.Trainer) -> dict[str, Any]:
    """What the run was and where it ended, to stand beside the checkpoint."""
    last = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return {
        "task": type(task).__name__,
        "hyperparameters": dict(task.hparams),
        "steps": trainer.global_step,
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
