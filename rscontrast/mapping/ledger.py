"""What of a run is done: one small file a job, so that a run that was cut off is taken up again.

A job's key is a hash of all that its pixels depend on: the weights, the grid, the settings, and of
each input where it is and what is told of its content (``file:checksum``, ``file:size``,
``updated``; of a local file its size and time). A job is done if its record has its key and its
files are there with their sizes. Files are on the disk before the record that names them is, and
each record is renamed into place, so that whatever ends a run leaves no record of what is not.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import shapely

from rscontrast.atomic import write_text
from rscontrast.errors import CheckpointError, WriteError
from rscontrast.io.grid import crs_wkt
from rscontrast.mapping.engine import Outcome
from rscontrast.mapping.job import Item, Job, Result, Settings
from rscontrast.stac.provider import GENERIC, Provider
from rscontrast.stac.source import bands_of
from rscontrast.types import PathOrStr

FORMAT = 1
"""Raised where the same inputs come to give other pixels."""
BACKOFF = 1.0
"""Seconds before the second try of a job; doubled for each further one."""
CONTENT = (
    "href", "file:checksum", "file:size", "updated", "nodata", "data_type", "proj:transform",
    "proj:shape", "proj:code", "proj:epsg", "proj:wkt2", "raster:scale", "raster:offset",
)  # fmt: skip
"""Fields of an asset that tell of its content or of what its numbers mean."""


@dataclass(frozen=True)
class Record:
    """What is known of a job."""

    key: str
    """Of the job when it was tried."""
    attempts: int = 0
    """Tries that failed, in this run."""
    error: str = ""
    """Of the last of them."""
    retry_at: float = 0.0
    """Unix time of the next try; infinite: it is parked until another run."""
    result: Result | None = None
    """What it wrote; None: it failed."""
    sizes: tuple[int, ...] = ()
    """Bytes of its files, in their order."""
    finished: float = 0.0
    """Unix time."""


class Ledger:
    """The records of one folder; one run at a time writes them."""

    def __init__(self, folder: PathOrStr) -> None:
        """Name the folder of a run; nothing is read or written yet."""
        self.folder = Path(folder)
        self.home = self.folder / ".ledger"

    def path(self, name: str) -> Path:
        """File of a job's record."""
        return self.home / f"{name}.json"

    def read(self, name: str) -> Record | None:
        """What is known of a job; None: nothing, or nothing readable."""
        try:
            data = json.loads(self.path(name).read_text(encoding="utf-8"))
            result = data.pop("result")
            if result is not None:
                result = Result(**{**result, "class_pixels": tuple(result["class_pixels"])})
            return Record(**{**data, "result": result, "sizes": tuple(data["sizes"])})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def state(self, name: str, key: str) -> str:
        """One of "done", "failed", "stale" (it was done of something else) and "pending"."""
        record = self.read(name)
        if record is None:
            return "pending"
        if record.key != key:
            return "pending" if record.result is None else "stale"
        if record.result is None:
            return "failed"
        return "done" if self._has_files(record) else "pending"

    def result(self, name: str) -> Result | None:
        """What a done job wrote."""
        record = self.read(name)
        return None if record is None else record.result

    def done(self, name: str, key: str, result: Result) -> None:
        """Write down a result, once its files are on the disk.

        What else lies in the job's folder, left by a run that was cut off or by other settings,
        is taken away.

        Raises:
            WriteError: the disk does not take it.
        """
        paths = [self.folder / file for file in result.files]
        try:
            for path in paths:
                _settle(path)
            for folder in {path.parent for path in paths}:
                _settle(folder)
            sizes = tuple(path.stat().st_size for path in paths)
        except OSError as error:
            raise WriteError(f"{name}: its files are not on the disk ({error})") from error
        self._write(name, Record(key, result=result, sizes=sizes, finished=time.time()))
        self.clear(name, keep=paths)

    def failed(self, name: str, key: str, outcome: Outcome, attempts: int) -> Record:
        """Write down a failure.

        Args:
            name: the job.
            key: its key.
            outcome: what came of it.
            attempts: tries that a job gets in a run.

        Returns:
            the record, which says when to try again.

        Raises:
            WriteError: the disk does not take it.
        """
        before = self.read(name)
        known = before is not None and before.key == key and before.result is None
        tries = 1 + (before.attempts if before is not None and known else 0)
        again = outcome.passing and tries < attempts
        wait = BACKOFF * 2.0 ** (tries - 1)
        at = time.time() + wait if again else float("inf")
        record = Record(key, tries, outcome.error, at)
        self._write(name, record)
        return record

    def forget(self, name: str) -> None:
        """Take away the record of a failure: the next run tries anew."""
        with suppress(OSError):
            self.path(name).unlink(missing_ok=True)

    def clear(self, name: str, keep: Iterable[Path] = ()) -> None:
        """Take away what a job's folder holds beside ``keep``."""
        kept = set(keep)
        for path in (self.folder / name).glob("*"):
            if path not in kept:
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def sweep(self, name: str) -> None:
        """Take away what was cut off in a folder of the run and left under temporary names."""
        for path in (self.folder / name).glob(".*.tmp*"):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def names(self) -> set[str]:
        """Jobs that have a record."""
        return {path.stem for path in self.home.glob("*_*.json") if path.name[0] != "."}

    def _write(self, name: str, record: Record) -> None:
        write_text(self.path(name), json.dumps(asdict(record), indent=1))

    def _has_files(self, record: Record) -> bool:
        files = record.result.files if record.result is not None else {}
        try:
            found = tuple((self.folder / file).stat().st_size for file in files)
        except OSError:
            return False
        return found == record.sizes


def key(job: Job, settings: Settings, model_sha256: str) -> str:
    """Hash of all that a job's pixels depend on.

    Args:
        job: the job.
        settings: how it is mapped; those that change no pixel do not count.
        model_sha256: of the file of the weights, see :func:`file_sha256`.
    """
    provider = settings.provider or GENERIC
    what = {
        "format": FORMAT,
        "model": model_sha256,
        "settings": _pixels(settings),
        "crs": crs_wkt(job.geobox),
        "grid": [*job.geobox.shape, *list(job.geobox.transform)[:6]],
        "halo": job.halo,
        "aoi": None if job.aoi is None else shapely.to_wkb(job.aoi, hex=True),
        "pre": [_input(item, provider) for item in job.pre],
        "post": [_input(item, provider) for item in job.post],
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def file_sha256(path: PathOrStr) -> str:
    """sha256 of a file's content.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: not readable ({error}); name a checkpoint") from error


def _pixels(settings: Settings) -> dict[str, Any]:
    kept = [f.name for f in fields(settings) if not f.metadata.get("effort")]
    values = {name: getattr(settings, name) for name in kept if name != "checkpoint"}
    provider = values.pop("provider")
    # Not its signer, key or patience: how a file is got does not change what is in it.
    return values | {"provider": repr(provider.products) if provider else None}


def _input(item: Item, provider: Provider) -> dict[str, Any]:
    shift = provider.product(item).shift
    told = ("collection", "updated", *((shift.version, shift.applied) if shift else ()))
    return {
        "id": str(item["id"]),
        "geometry": shapely.to_wkb(item["geometry"], hex=True),
        "told": {name: str(item[name]) for name in told if name in item},
        "assets": {name: _asset(asset) for name, asset in item["assets"].items()},
    }


def _asset(asset: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: asset[name] for name in CONTENT if asset.get(name) is not None}
    href = str(asset["href"])
    found["bands"] = bands_of(asset)
    found["href"] = href.partition("?")[0]  # a signature is made anew each time
    with suppress(OSError, ValueError):
        stat = Path(href).stat()
        found["local"] = [stat.st_size, stat.st_mtime_ns]
    return found


def _settle(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
