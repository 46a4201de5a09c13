"""A small real job for engines and ledgers: a COG whose pixels tell where they lie.

Workers import this: what is slow to import, torch before all, stays out.
"""

import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rscontrast.errors import AssetError, InputError
from rscontrast.io import CogWriter
from rscontrast.mapping.job import Job, Result, Settings
from rscontrast.mapping.plan import plan
from rscontrast.stac import search

CATALOG = Path(__file__).parents[2] / "sample_data" / "catalog.json"


@dataclass(frozen=True)
class Paint:
    """Writes a tile; leaves a mark each time it is called."""

    folder: str
    marks: str
    slow: float = 0.0
    fails: tuple[str, ...] = ()
    """Jobs that always fail in a way that may pass."""
    refuses: tuple[str, ...] = ()
    """Jobs whose input is wrong."""
    once: tuple[str, ...] = ()
    """Jobs that fail the first time."""
    dies: tuple[str, ...] = ()
    """Jobs whose worker is killed the first time."""
    deadly: tuple[str, ...] = ()
    """Jobs whose worker is killed each time."""

    def __call__(self, job: Job) -> Result:
        first = self._mark(job.id)
        if job.id in self.refuses:
            raise InputError("bands", "none", "some")
        if job.id in self.fails or (job.id in self.once and first):
            raise AssetError(f"{job.id}: block (3, 4) cannot be read")
        path = Path(self.folder, job.id, "classes.tif")
        with CogWriter(path, job.geobox, dtype="uint8", nodata=255, bands=["class"]) as file:
            left, top = job.geobox.transform.c, job.geobox.transform.f
            pixels = np.add.outer(np.arange(128), np.arange(128)) + round(left + top)
            file.write((pixels % 251).astype(np.uint8)[None], 0, 0)
            time.sleep(self.slow)
            if job.id in self.deadly or (job.id in self.dies and first):
                os.kill(os.getpid(), signal.SIGKILL)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Result(job.id, {f"{job.id}/classes.tif": digest}, 0.1, 1.0, 0.01, (128 * 128,))

    def _mark(self, name: str) -> bool:
        folder = Path(self.marks)
        folder.mkdir(parents=True, exist_ok=True)
        first = not list(folder.glob(f"{name}.*"))
        (folder / f"{name}.{os.getpid()}.{time.time_ns()}").touch()
        return first


@dataclass(frozen=True)
class WhichGpu:
    """Tells which GPU its worker sees."""

    def __call__(self, job: Job) -> Result:
        return Result(job.id, {os.environ["CUDA_VISIBLE_DEVICES"]: ""}, 0.0, 0.0, 0.0, ())


def marks(folder):
    """How often each job was called."""
    found = [path.name.split(".")[0] for path in Path(folder).iterdir()]
    return {name: found.count(name) for name in sorted(set(found))}


def pids(folder):
    return {int(path.name.split(".")[1]) for path in Path(folder).iterdir()}


def small_plan(**arguments):
    """30 tiles of 128 pixels in two zones."""
    items = search(CATALOG, collections=["scenes"])
    bands = ("blue", "green", "red", "nir")
    return plan(items, bands=bands, tile_size=128, halo=32, event="2022-08-15", **arguments)


def settings(folder, text="weights", **arguments):
    path = Path(folder, "model.pt")
    path.write_text(text)
    return Settings(checkpoint=str(path), **arguments)


def note_results(folder, plan, settings, results):
    """Stands for what is made of all results."""
    (folder / "catalog.json").write_text("\n".join(sorted(result.id for result in results)))


def tree(folder):
    """Content of every file of the results, hidden ones included, but the ledger's."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and ".ledger" not in path.parts
    }
