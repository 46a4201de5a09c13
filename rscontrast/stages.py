"""The two stages that train: tables in, a checkpoint out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import lightning.pytorch as pl
import pandas as pd
import shapely

from rscontrast.datamodules import DamageDataModule, PairDataModule
from rscontrast.datamodules.draws import AREA
from rscontrast.datamodules.splits import ALL
from rscontrast.datasets.depth import DEPTH
from rscontrast.errors import InputError, choose, whole
from rscontrast.fit import Precision, fit
from rscontrast.io.labels import require_label
from rscontrast.models.checkpoint import load_encoder, save_encoder, save_segmenter
from rscontrast.models.item import write_model_item
from rscontrast.models.start import require_bands
from rscontrast.stac.pairing.file import SomePairs
from rscontrast.stac.provider import Provider
from rscontrast.tasks import BYOL, FALSE, DamageSegmentation, DenseCL, MoCo, PixPro, SimCLR
from rscontrast.tasks.ssl import SSLTask
from rscontrast.types import PathOrStr

METHODS: dict[str, type[SSLTask]] = {
    "simclr": SimCLR,
    "false": FALSE,
    "moco": MoCo,
    "byol": BYOL,
    "pixpro": PixPro,
    "densecl": DenseCL,
}
"""Name -> task of each self-supervised method: a new one is one line here."""


def pretrain(
    items: gpd.GeoDataFrame | None,
    pairs: SomePairs | None,
    out: PathOrStr,
    *,
    bands: Sequence[str] | None = None,
    method: str = "false",
    encoder: str = "resnet18",
    epochs: int = 20,
    patch_size: int | None = None,
    view_size: int | None = None,
    batch_size: int = 64,
    length: int | None = None,
    tolerance: str = "1h",
    lr: float | None = None,
    optimizer: str | None = None,
    accumulate: int = 1,
    weights: PathOrStr | None = None,
    resume: PathOrStr | None = None,
    method_args: Mapping[str, Any] | None = None,
    views: Mapping[str, Any] | None = None,
    by: str = AREA,
    weights_by: str | None = None,
    min_valid: float | None = None,
    tries: int = 5,
    per_block: int | None = None,
    register: float | None = None,
    depth: str | None = None,
    depth_band: str = DEPTH,
    provider: Provider | str | None = None,
    splits: tuple[float, float, float] = ALL,
    split_block: float = 1.0,
    cache: PathOrStr | None = None,
    num_workers: int = 0,
    threads: int | None = None,
    device: str = "auto",
    precision: Precision = "32-true",
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Learn an encoder from temporal pairs, without labels.

    Args:
        items: of :func:`rscontrast.search`; None with ``cache``.
        pairs: of :func:`rscontrast.pair_items`; None with ``cache``.
        out: checkpoint to write; TorchGeo's decoders load it too. While training lasts, the
            encoder of the last finished epoch stands beside it, with ``.partial`` in its name, and
            all that the run needs to go on, with ``.resume.ckpt``; at the end a record of the run,
            with ``.json``, and a STAC Item of the encoder, with ``.item.json``.
        bands: asset keys, band names or common names; the channel order. Default: the cache's.
        method: "simclr", "false", "moco", "byol", "pixpro" or "densecl".
        encoder: name of an encoder of segmentation_models_pytorch, or "tu-" and a timm model.
        epochs: passes over ``length`` pairs.
        patch_size: side of a patch, pixels; default: the cache's, or 96.
        view_size: side of a view, pixels; default: that of the patch.
        batch_size: pairs in a batch.
        length: pairs an epoch, at least ``batch_size``; default: all of the cache, or 1024.
        tolerance: as the pairs were made with.
        lr: peak learning rate; default: the method's.
        optimizer: "adamw", "sgd" or "lars"; default: the method's.
        accumulate: batches whose gradients are added up for one step. Negatives are those of one
            batch still, and of the queue where there is one.
        weights: of an encoder to start from: a checkpoint of ours, of the same bands, or one of
            TorchGeo's, or the name of weights of TorchGeo's, "ResNet18_Weights.SENTINEL2_ALL_MOCO".
        resume: a ``.resume.ckpt`` of a run of the same arguments that was cut: go on from there,
            to the very weights that the whole run would have given.
        method_args: further arguments of the task, for "false" select, confidence,
            positive_threshold, margin, max_selected, symmetric, start_epoch; for all of them
            warmup, compile, gradient_checkpointing, channels_last and more.
        views: arguments of :class:`rscontrast.augment.PairViews`.
        by: what is equally likely: "area" (any patch on the ground of pairs), "place" or "pair".
        weights_by: how often a pair is drawn: a column of the pairs, or "season".
        min_valid: least share (0-1) of a patch's pixels that are valid on both dates; others are
            drawn again.
        tries: patches that are read at most for one draw with ``min_valid``.
        per_block: patches of each visited block of a file, which is then decoded once for all.
        register: move the second date onto the first, by at most so many pixels.
        depth: terrain for the term "depth" of dense methods: GeoParquet of items, or a raster.
        depth_band: asset key or band of those items.
        provider: where bands lie in the assets: a name, or pkg.mod:PROVIDER.
        splits: shares of train, validation and test, by place; the loss on validation is in the
            record of the run.
        split_block: side of a block of places that stay together, degrees: small enough that
            there are several blocks for each split.
        cache: what :func:`rscontrast.caching.cache` wrote, in place of items, pairs and all that
            says what is drawn from them.
        num_workers: reading processes; 0 reads in this one, by threads.
        threads: that read at a time without workers; default: 4.
        device: "auto", "cpu" or "gpu".
        precision: of Lightning: "32-true", "bf16-mixed", ...
        seed: of everything that is drawn.
        progress: show a bar.

    Returns:
        path of the checkpoint.

    Raises:
        InputError: an argument out of range or an unknown name.
        BandError: an item, or ``weights``, lacks a band.
        AssetError: a file or the cache cannot be read.
        TrainingError: the loss is not finite.
        WriteError: the disk does not take the checkpoint.
    """
    task_class = METHODS[choose("method", method, METHODS)]
    whole("seed", seed, least=0)
    pl.seed_everything(seed, verbose=False)
    data = PairDataModule(
        items,
        pairs,
        None if bands is None else list(bands),
        patch_size=patch_size,
        view_size=view_size,
        batch_size=batch_size,
        length=length,
        num_workers=num_workers,
        seed=seed,
        views=dict(views or {}),
        tolerance=tolerance,
        progress=progress,
        by=by,
        weights=weights_by,
        min_valid=min_valid,
        tries=tries,
        per_block=per_block,
        register=register,
        depth=depth,
        depth_band=depth_band,
        provider=provider,
        splits=splits,
        split_block=split_block,
        threads=threads,
        cache=None if cache is None else str(cache),
    )
    if weights is not None:
        require_bands(str(weights), data.bands)
    arguments: dict[str, Any] = {
        "model": encoder,
        "in_channels": len(data.bands),
        "weights": weights and str(weights),
        "seed": seed,
    }
    own = {"lr": lr, "optimizer": optimizer}
    arguments |= {name: value for name, value in own.items() if value is not None}
    task = _build(task_class, arguments, "method_args", method_args)

    def save(path: Path) -> None:
        if data.contract is not None:
            save_encoder(path, task.model, encoder, data.contract)

    fit(task, data, Path(out), save, epochs, device, precision, progress, accumulate, resume,
        data.rules)  # fmt: skip
    known = {} if data.cached is not None else _extent(data.pairs)
    write_model_item(out, method=method, hyperparameters=task.hparams, **known)
    return Path(out)


def _extent(pairs: gpd.GeoDataFrame) -> dict[str, Any]:
    """Hull of the ground of pairs, and their first and last date."""
    dates = [pd.to_datetime(pairs[f"{side}_datetime"], utc=True) for side in ("pre", "post")]
    interval = min(d.min() for d in dates), max(d.max() for d in dates)
    hull = shapely.convex_hull(shapely.GeometryCollection(pairs.geometry.to_crs(4326).to_list()))
    return {"geometry": hull, "interval": tuple(date.to_pydatetime() for date in interval)}


def finetune(
    items: gpd.GeoDataFrame,
    pairs: SomePairs,
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
    tolerance: str = "1h",
    label_share: float = 1.0,
    freeze_encoder: bool = False,
    lr: float = 1e-3,
    provider: Provider | str | None = None,
    num_workers: int = 0,
    threads: int | None = None,
    device: str = "auto",
    precision: Precision = "32-true",
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Train a Siamese segmenter on labelled pairs.

    Args:
        items: of :func:`rscontrast.search`.
        pairs: of :func:`rscontrast.pair_items`; labels dated within a pair are its labels.
        out: checkpoint to write. While training lasts, the segmenter of the last finished epoch
            stands beside it, with ``.partial`` in its name; at the end a record of the run.
        label: asset key of the label raster.
        encoder: checkpoint of a pretrained encoder (.pt, .pth or .ckpt), or the name of one with
            random weights.
        bands: the channel order; default: that of the checkpoint. Needed for random weights.
        class_names: class i is the i-th; default: ``classification:classes`` of the labels.
        decoder: "unet" or another of :data:`rscontrast.models.decoders.DECODERS`.
        epochs: passes over ``length`` patches.
        patch_size: side of a patch, pixels, a multiple of 32.
        batch_size: patches in a batch.
        length: patches an epoch, at least ``batch_size``, half of them with a class other than 0.
        tolerance: as the pairs were made with.
        label_share: share (0-1] of the labelled places (patches of a grid) that may be used.
        freeze_encoder: train only the decoder.
        lr: peak learning rate.
        provider: where bands lie in the assets: a name, or pkg.mod:PROVIDER.
        num_workers: reading processes; 0 reads in this one, by threads.
        threads: that read at a time without workers; default: 4.
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
    names = list(label_classes(items, label) if class_names is None else class_names)
    whole("seed", seed, least=0)
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
        tolerance=tolerance,
        progress=progress,
        provider=provider,
        threads=threads,
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

    fit(task, data, Path(out), save, epochs, device, precision, progress)
    return Path(out)


def label_classes(items: gpd.GeoDataFrame, label: str) -> list[str]:
    """Class names that the label assets declare, in the order of their values.

    Raises:
        BandError: no item has the asset.
        InputError: it declares no classes, or values other than 0, 1, 2, ...
    """
    require_label(items.to_dict("records"), label)
    assets = [found[label] for found in items["assets"] if label in found]
    classes = {c["value"]: c.get("name") or c["title"] for a in assets for c in _classes(a)}
    if not classes or sorted(classes) != list(range(len(classes))):
        allowed = "the names of classes 0, 1, 2, ...: the items do not declare them"
        raise InputError("class_names", classes or None, allowed)
    return [classes[value] for value in range(len(classes))]


def _classes(asset: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return asset.get("classification:classes") or ()


def _build(
    task: type[SSLTask], arguments: dict[str, Any], name: str, more: Mapping[str, Any] | None
) -> SSLTask:
    try:
        return task(**arguments, **(more or {}))
    except TypeError as error:
        raise InputError(
            name, dict(more or {}), f"arguments of {task.__name__} ({error})"
        ) from error
