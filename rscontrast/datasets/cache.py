"""Drawn pairs on a local disk, read once from slow storage for many epochs: a Zarr store.

Why Zarr and not WebDataset: a chunk is a sample, so any sample is read by its number. Shuffles
are therefore exact over all samples instead of over a buffer, ranks take disjoint shares of them,
and a cut epoch resumes with the very next draw; a stream of tar files has none of that. And a
shard of some hundred chunks is one file, so there are no more files than WebDataset has.

    store/
      zarr.json                 what was cached: bands, rules, statistics
      image/c/0/0/0/0/0 ...     a shard: [shard, 2, C, H, W], zstd after a byte shuffle, checksums
      valid/ dates/ bounds/ transform/ ...
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import batched, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchgeo.datasets import NonGeoDataset
from torchgeo.datasets.utils import Sample

from rscontrast.atomic import atomic_path
from rscontrast.errors import AssetError, InputError
from rscontrast.types import PathOrStr, SensorContract

if TYPE_CHECKING:
    # It takes a second: imported for good where there is a cache.
    import zarr
    from zarr.core.array_spec import ArrayConfigParams

FORMAT = 1
SHARD = 256
"""Samples of a shard, if they are small enough for it."""
SHARD_BYTES = 2**27
"""Largest shard before compression: two are held in memory while the store is written."""
SMALL = 4096
"""Bytes up to which a value is read with its neighbours: a date, a transform."""

type Array = NDArray[np.generic]
type Values = dict[str, Array]
# These two stand for what is not imported yet.
type Group = zarr.Group
type ZarrArray = zarr.Array[Any]


def write_cache(
    path: PathOrStr,
    samples: Iterable[Sample],
    count: int,
    attributes: Callable[[], Mapping[str, Any]],
) -> None:
    """Write samples, whole or not at all.

    Args:
        path: of the store, a folder that does not exist yet.
        samples: tensors by name, of the same names and shapes in each sample.
        count: number of samples.
        attributes: asked for when all samples are written; JSON: ``contract`` (see
            :class:`rscontrast.types.SensorContract`), ``statistics``, ``seed``, ``rules``.

    Raises:
        InputError: the path is taken, or samples differ in shape.
        WriteError: the disk does not take it.
    """
    import zarr

    require_free(path)
    with atomic_path(Path(path)) as tmp:
        try:
            group = zarr.create_group(tmp)
            _fill(group, samples, count)
            group.attrs["rscontrast"] = {"format": FORMAT, "samples": count, **attributes()}
        except BaseException:
            shutil.rmtree(tmp, ignore_errors=True)
            raise


def require_free(path: PathOrStr) -> None:
    """Refuse to write over anything.

    Raises:
        InputError: something has that name.
    """
    if Path(path).exists():
        raise InputError("out", str(path), "a new name: remove what is there, or give another")


def _fill(group: Group, samples: Iterable[Sample], count: int) -> None:
    rest = map(_plain, samples)
    first = next(rest, None)
    if first is None:
        raise InputError("samples", "none", "1 or more")
    size = min(SHARD, max(1, SHARD_BYTES // sum(value.nbytes for value in first.values())))
    arrays = {name: _create(group, name, value, count, size) for name, value in first.items()}
    done = 0
    # A shard is written at once: written in parts, it would be read again for each. It is so
    # beside the reading of the next, by a thread that is waited for whatever ends the loop.
    with ThreadPoolExecutor(1, "write") as writer:
        last: Future[None] | None = None
        for shard in batched(chain([first], rest), size):
            if last is not None:
                last.result()
            last = writer.submit(_write, arrays, shard, done)
            done += len(shard)
        if last is not None:
            last.result()
    if done != count:
        raise InputError("count", count, f"{done}, the number of samples that came")


def _plain(sample: Sample) -> Values:
    return {name: value.numpy() for name, value in sample.items()}


def _create(group: Group, name: str, value: Array, count: int, size: int) -> ZarrArray:
    from zarr.codecs import BloscCodec, Crc32cCodec

    small = value.nbytes <= SMALL
    return group.create_array(
        name,
        shape=(count, *value.shape),
        dtype=value.dtype,
        chunks=(size if small else 1, *value.shape),
        shards=None if small else (size, *value.shape),
        compressors=[BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"), Crc32cCodec()],
        # A chunk of zeros that is left out would be read as zeros where the file is lost, too.
        config={"write_empty_chunks": True},
    )


def _write(arrays: Mapping[str, ZarrArray], shard: Sequence[Values], start: int) -> None:
    for name, array in arrays.items():
        for sample in shard:
            if sample.keys() != arrays.keys() or sample[name].shape != array.shape[1:]:
                shapes = {key: value.shape for key, value in sample.items()}
                raise InputError("sample", shapes, f"{name} of shape {array.shape[1:]} in each")
        array[start : start + len(shard)] = np.stack([sample[name] for sample in shard])


class CachedPairs(NonGeoDataset):
    """The samples of a cache, bit for bit, by number; any sampler of numbers draws from it."""

    thread_safe = True
    """Many threads may read samples at once."""

    contract: SensorContract
    """Bands, pixel size and statistics of what was cached."""
    attributes: dict[str, Any]
    """All that is told of the cache: ``seed``, ``rules``, ``statistics``, ``version``, ..."""

    def __init__(self, path: PathOrStr) -> None:
        """Open a cache; of the samples nothing is read yet.

        Args:
            path: what ``rscontrast cache`` wrote.

        Raises:
            AssetError: there is no cache, or it is not whole.
        """
        self.path = Path(path)
        self._arrays, self.attributes = _opened(self.path)
        self.contract = SensorContract.from_dict(self.attributes["contract"])
        self._length = int(self.attributes["samples"])
        # Values that are read with their neighbours, by the first of these: whole files.
        self._blocks: dict[tuple[str, int], Array] = {}

    def __reduce__(self) -> tuple[type["CachedPairs"], tuple[Path]]:
        """Send the path alone to another process."""
        return type(self), (self.path,)

    def __len__(self) -> int:
        """Number of samples."""
        return self._length

    def __getitem__(self, index: int) -> Sample:
        """Read one sample, and its number as ``index``, int64, for a loss that remembers samples.

        Raises:
            IndexError: there is no such number.
            AssetError: it cannot be read, or is not what was written.
        """
        number = range(self._length)[index]
        sample: Sample = {"index": torch.tensor(number)}
        for name, array in self._arrays.items():
            try:
                sample[name] = torch.from_numpy(self._read(name, array, number))
            except (OSError, ValueError, RuntimeError) as error:
                raise _broken(self.path, f"{name} of sample {number}: {error}") from error
        return sample

    def _read(self, name: str, array: ZarrArray, number: int) -> Array:
        if array.shards is not None:
            return np.asarray(array[number])
        size = array.chunks[0]
        start = number // size * size
        if (name, start) not in self._blocks:
            self._blocks[name, start] = np.asarray(array[start : start + size])
        # A copy: what is done to a sample must not be done to the next reading of it.
        return np.array(self._blocks[name, start][number - start])


def _opened(path: Path) -> tuple[dict[str, ZarrArray], dict[str, Any]]:
    """The arrays of a store, of which every file must be there, and what is told of it."""
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        # Else what is missing would be read as zeros.
        strict: ArrayConfigParams = {"read_missing_chunks": False}
        arrays = {name: array.with_config(strict) for name, array in group.arrays()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(path, str(error)) from error
    told: Any = group.attrs.get("rscontrast")
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise _broken(path, f"not a cache of pairs of format {FORMAT}")
    for name, array in arrays.items():
        rows, *rest = array.shards or array.chunks
        for part in range(-(-array.shape[0] // rows)):
            file = Path(name, "c", str(part), *["0"] * len(rest))
            if not (path / file).is_file():
                raise _broken(path, f"{file} is missing")
    return arrays, told


def _broken(path: Path, cause: str) -> AssetError:
    return AssetError(f"{path}: {cause}; make the cache (again) with `rscontrast cache`")
