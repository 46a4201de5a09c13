"""Drawn pairs, read once and kept: for many epochs from slow storage."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
from tqdm import tqdm

import rscontrast
from rscontrast.datamodules.draws import AREA, PairDraws
from rscontrast.datamodules.pairs import pair_images
from rscontrast.datamodules.statistics import BandStatistics
from rscontrast.datasets import TemporalPairDataset
from rscontrast.datasets.cache import require_free, write_cache
from rscontrast.errors import InputError, whole
from rscontrast.loader import PairLoader
from rscontrast.samplers import EpochSampler
from rscontrast.stac.pairing.file import SomePairs, as_frame
from rscontrast.stac.provider import Provider
from rscontrast.types import PathOrStr


def cache(
    items: gpd.GeoDataFrame,
    pairs: SomePairs,
    out: PathOrStr,
    *,
    bands: Sequence[str],
    patch_size: int = 96,
    length: int = 10_000,
    by: str = AREA,
    weights_by: str | None = None,
    min_valid: float | None = None,
    tries: int = 5,
    per_block: int | None = None,
    register: float | None = None,
    provider: Provider | str | None = None,
    tolerance: str = "1h",
    threads: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Read patches of pairs once, and keep them with the statistics of their bands.

    Train on them with ``pretrain(None, None, ..., cache=out)``, or draw from
    :class:`rscontrast.datasets.CachedPairs` with any sampler of numbers. A cache is whole or not
    there: a run that was cut starts anew. Of N pairs it has N x 2 x C x H x W x 4 bytes before
    compression.

    Args:
        items: of :func:`rscontrast.search`.
        pairs: of :func:`rscontrast.pair_items`.
        out: folder to write, which must be new; it is there when all is written.
        bands: asset keys, band names or common names; the channel order.
        patch_size: side of a patch, pixels.
        length: pairs to draw.
        by: what is equally likely: "area" (any patch on the ground of pairs), "place" or "pair".
        weights_by: how often a pair is drawn: a column of the pairs, or "season".
        min_valid: least share (0-1) of a patch's pixels that are valid on both dates; others are
            drawn again.
        tries: patches that are read at most for one draw with ``min_valid``.
        per_block: patches of each visited block of a file, which is then decoded once for all.
        register: move the second date onto the first, by at most so many pixels.
        provider: where bands lie in the assets: a name, or pkg.mod:PROVIDER.
        tolerance: as the pairs were made with.
        threads: that read at a time; default: 4.
        seed: of the draw.
        progress: show a bar.

    Returns:
        path of the cache.

    Raises:
        InputError: an argument out of range, or something has the name already; at the end, when
            all was read: a band is constant, by which nothing can be normalised.
        BandError: an item lacks a band.
        AssetError: a file cannot be read.
        WriteError: the disk does not take it.
    """
    require_free(out)
    length, seed = int(whole("length", length)), int(whole("seed", seed, least=0))
    draws = PairDraws(patch_size, by, weights_by, min_valid, tries, per_block, tolerance)
    rules = _written(draws.to_dict() | {"register": register})
    table = as_frame(pairs)
    images = pair_images(items, table, bands, provider)
    dataset = TemporalPairDataset(images, register=register)
    drawn = EpochSampler(draws.sampler(dataset, table, length, seed), seed=seed, rank=0, world=1)
    loader = PairLoader(dataset, batch_size=None, sampler=drawn, threads=threads)
    found = BandStatistics(seed=seed)

    def counted() -> Any:
        for sample in tqdm(loader, "cache", unit="pair", disable=not progress, leave=False):
            found.add(sample)
            yield sample

    def attributes() -> dict[str, Any]:
        return {
            "version": rscontrast.__version__,
            "contract": found.contract(bands, images.ground_res).to_dict(),
            "statistics": found.to_dict(),
            "seed": seed,
            "rules": rules,
        }

    write_cache(out, counted(), length, attributes)
    return Path(out)


def _written(rules: Mapping[str, Any]) -> Any:
    """As JSON gives them back: what cannot be written is refused before anything is read."""
    try:
        return json.loads(json.dumps(rules, default=lambda value: value.tolist()))
    except (AttributeError, TypeError) as error:
        raise InputError("rules", dict(rules), "numbers and text") from error
