"""A checkpoint and a catalog go in, a catalog of maps comes out; or how far it has come."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd

from rscontrast.errors import InputError
from rscontrast.mapping.choice import read_period
from rscontrast.mapping.engine import Engine
from rscontrast.mapping.engines import make_engine
from rscontrast.mapping.execute import execute
from rscontrast.mapping.job import Settings
from rscontrast.mapping.plan import plan
from rscontrast.mapping.planned import Plan
from rscontrast.stac import search
from rscontrast.stac.conditions.area import AOI
from rscontrast.stac.conditions.period import FIRST, LAST, TOI, Instant
from rscontrast.stac.pairing.file import SomePairs, as_frame
from rscontrast.stac.provider import PROVIDERS, Provider, read_provider
from rscontrast.types import PathOrStr, SensorContract

type Source = gpd.GeoDataFrame | PathOrStr
"""Items, or whatever :func:`rscontrast.search` takes: a catalog, an API, a provider's name."""


def plan_map(
    source: Source,
    checkpoint: PathOrStr,
    *,
    pairs: SomePairs | PathOrStr | None = None,
    aoi: AOI | None = None,
    event: Instant | None = None,
    pre: TOI | None = None,
    post: TOI | None = None,
    max_gap: float = 365.0,
    collections: Sequence[str] = (),
    filter: str | None = None,  # noqa: A002
    provider: str | Provider = "generic",
    crs: str | None = None,
    res: float | None = None,
    tile_size: int = 2048,
    anchor: tuple[float, float] = (0.0, 0.0),
    halo: int | None = None,
    most: int = 8,
    patch_size: int = 256,
) -> Plan:
    """Plan a run; of imagery nothing is opened.

    Args:
        source: items of a search, or where to search for them.
        checkpoint: what the maps are made by; its bands and its pixel size are asked for.
        pairs: of :func:`rscontrast.pair_items`, instead of event, pre and post.
        aoi: area of interest: bounds in degrees, a geometry or a vector file; None: all that the
            items, or the pairs, cover.
        event: when something happened; items are before or after it.
        pre: times of the items before: "2023-05/2023-07".
        post: times of the items after.
        max_gap: days from the event beyond which items are left out.
        collections: of the source that are searched; empty: all.
        filter: condition on the items in CQL2: "eo:cloud_cover < 40".
        provider: whose catalog it is: where bands lie, what masks mean, how links are signed.
        crs: of the maps; None: each UTM zone's own.
        res: side of a pixel, units of the crs; None: that of the items, or the checkpoint's where
            theirs is more than a quarter off.
        tile_size: side of a tile, pixels; a job is a tile.
        anchor: a corner of a tile in the crs.
        halo: pixels read beyond a tile; None: half a patch.
        most: items of each date that a tile is made of.
        patch_size: side of the patches that the model sees, pixels.

    Raises:
        InputError: an argument out of range.
        CheckpointError: the checkpoint cannot be read.
        BandError: no item has the checkpoint's bands.
        GridError: the area reaches beyond UTM.
        EmptySearchError: nothing to map; says why.
        CatalogError: the source cannot be read.
    """
    publisher = _publisher(source, provider)
    contract = _contract(checkpoint)
    table = None if pairs is None else as_frame(pairs)
    items = source
    if not isinstance(items, gpd.GeoDataFrame):
        if table is None:
            period = read_period(event, pre, post, max_gap)
            first, last = period.pre[0], period.post[1]
        else:
            first, last = table["pre_datetime"].min(), table["post_datetime"].max()
        toi = (None if first == FIRST else first, None if last == LAST else last)
        items = search(
            os.fspath(items), collections=collections, aoi=aoi, toi=toi, filter=filter,
            provider=publisher,
        )  # fmt: skip
    elif collections or filter:
        items = search(items, collections=collections, filter=filter)
    return plan(
        items, bands=contract.bands, aoi=aoi, event=event, pre=pre, post=post, max_gap=max_gap,
        pairs=table, crs=crs, res=res, learned=contract.res, tile_size=tile_size, anchor=anchor,
        halo=patch_size // 2 if halo is None else halo, most=most, provider=publisher,
    )  # fmt: skip


def _publisher(source: Source, provider: str | Provider) -> Provider:
    """A source that is a provider's name needs not be told whose it is."""
    named = isinstance(source, str) and source in PROVIDERS and provider == "generic"
    return read_provider(source if named and isinstance(source, str) else provider)


def _contract(checkpoint: PathOrStr) -> SensorContract:
    from rscontrast.models.checkpoint import read_contract  # imports torch

    return read_contract(checkpoint)


def run(
    source: Source,
    checkpoint: PathOrStr,
    out: PathOrStr,
    *,
    pairs: SomePairs | PathOrStr | None = None,
    engine: str | Engine = "local",
    workers: int | None = None,
    address: str | None = None,
    attempts: int = 3,
    replace_run: bool = False,
    progress: bool = True,
    patch_size: int = 256,
    overlap: int = 64,
    window: str = "cosine",
    precision: str = "fp32",
    tta: bool = False,
    uncertainty: bool = False,
    batch_size: int = 16,
    device: str = "auto",
    threads: int | None = None,
    provider: str | Provider = "generic",
    **place: Any,
) -> Path:
    """Map a catalog; what an earlier run into the same folder finished is not done again.

    Args:
        source: items of a search, or where to search for them.
        checkpoint: what the maps are made by.
        out: folder of the results.
        pairs: of :func:`rscontrast.pair_items`, instead of event, pre and post.
        engine: "local", "dask", or one of :class:`rscontrast.mapping.engine.Engine`.
        workers: processes on this machine; None: one for each GPU, or this process alone.
        address: of the scheduler of a Dask cluster that runs.
        attempts: tries that a job gets before it is parked with its error.
        replace_run: take over a folder of another run.
        progress: show a bar.
        patch_size: side of the patches that the model sees, pixels.
        overlap: pixels that neighbouring patches share and are blended over.
        window: weights of a patch's pixels: "cosine" or "flat".
        precision: "fp32", "bf16" or "int8".
        tta: whether the eight turns of a patch are averaged.
        uncertainty: whether a band of uncertainty is written.
        batch_size: patches at a time.
        device: "auto", "cpu" or "gpu".
        threads: of one worker; None: the cores, shared among the workers.
        provider: whose catalog it is.
        place: of :func:`plan_map`.

    Returns:
        path of the catalog: ``out/catalog.json``.

    Raises:
        InputError: an argument out of range; the folder is another run's, or one is at work in it.
        WriteError: the folder cannot be written; or no job at all could be done.
        CheckpointError, BandError, GridError, EmptySearchError, CatalogError: see
            :func:`plan_map`.
    """
    publisher = _publisher(source, provider)
    made = plan_map(
        source, checkpoint, pairs=pairs, patch_size=patch_size, provider=publisher, **place
    )
    gpus = visible_gpus(device) if engine == "local" else ()
    count = workers if workers is not None else max(1, len(gpus))
    settings = Settings(
        checkpoint=os.fspath(checkpoint), patch_size=patch_size, overlap=overlap, window=window,
        precision=precision, tta=tta, uncertainty=uncertainty, provider=publisher,
        batch_size=batch_size, device=device, threads=_threads(threads, count),
    )  # fmt: skip
    runs = engine if not isinstance(engine, str) else _engine(engine, count, address, gpus)
    return execute(
        made, settings, out, engine=runs, attempts=attempts,
        replace_run=replace_run, progress=progress,
    )  # fmt: skip


def _engine(name: str, workers: int, address: str | None, gpus: tuple[str, ...]) -> Engine:
    if name == "dask":
        return make_engine(name, workers=workers, address=address)
    if address is not None:
        raise InputError("address", address, "an address with engine dask")
    return make_engine(name, workers=workers, gpus=gpus)


def _threads(threads: int | None, workers: int) -> int | None:
    if threads is not None or workers <= 1:
        return threads
    return max(1, (len(os.sched_getaffinity(0))) // workers)


def visible_gpus(device: str) -> tuple[str, ...]:
    """What ``CUDA_VISIBLE_DEVICES`` says, or would say, of each GPU; none where the CPU maps."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = named.split(",") if named else map(str, range(torch.cuda.device_count()))
    return tuple(ids)
