"""Do a plan: ledger, engine, outputs. A second run does what the first left."""

import json
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rscontrast.atomic import write_text
from rscontrast.errors import InputError, WriteError, whole
from rscontrast.mapping.engine import Engine, Work
from rscontrast.mapping.job import Job, Result, Settings
from rscontrast.mapping.ledger import Ledger, file_sha256, key
from rscontrast.mapping.lock import only_run
from rscontrast.mapping.planned import Plan
from rscontrast.mapping.status import RUN, read_run
from rscontrast.mapping.work import MapWork
from rscontrast.types import PathOrStr

PLAN = "plan.parquet"
CATALOG = "catalog.json"
OUTPUTS = "rscontrast.products"

type Finish = Callable[[Path, Plan, Settings, Sequence[Result]], Any]
"""Writes what is made of all results: the catalog, the mosaic, polygons, previews."""


def execute(
    plan: Plan,
    settings: Settings,
    out: PathOrStr,
    *,
    engine: Engine,
    work: Work | None = None,
    finish: Finish | None = None,
    attempts: int = 3,
    replace_run: bool = False,
    progress: bool = True,
) -> Path:
    """Do the jobs of a plan that are not done yet, and what is made of all.

    A job that fails is tried again a little later, each time twice as late; after ``attempts``
    it is parked with its error, and the run goes on. The next run tries it anew.

    Args:
        plan: of :func:`rscontrast.mapping.plan.plan`.
        settings: how to map.
        out: folder of the run; one of another run, that asked something else, is refused.
        engine: runs the jobs.
        work: what is done with a job; None: it is mapped.
        finish: what is made of the results; None: all of :mod:`rscontrast.mapping.outputs`.
        attempts: tries that a job gets.
        replace_run: take over the folder of another run; what of it does not fit is removed once
            all is done.
        progress: show a bar.

    Returns:
        path of the catalog: ``out/catalog.json``.

    Raises:
        InputError: the folder is another run's, or a run is at work in it.
        CheckpointError: the checkpoint cannot be read.
        WriteError: the folder cannot be written; or no job at all could be done.
    """
    whole("attempts", attempts)
    ledger = Ledger(out)
    model = file_sha256(settings.checkpoint)
    keys = {job.id: key(job, settings, model) for job in plan.jobs}
    _require_own(ledger, plan, replace_run)
    with only_run(ledger.folder):
        _begin(ledger, plan, settings, model, keys)
        task = work or MapWork(settings, str(ledger.folder.resolve()))
        _do(ledger, plan.jobs, keys, engine, task, attempts, progress=progress)
        results = [r for job in plan.jobs if (r := _done(ledger, job, keys)) is not None]
        _warn(ledger, plan.jobs, keys, len(results))
        if len(results) == len(plan.jobs):
            _drop_others(ledger, keys)
        (finish or _finish)(ledger.folder, plan, settings, results)
    return ledger.folder / CATALOG


def _require_own(ledger: Ledger, plan: Plan, replace_run: bool) -> None:
    """Refuse the folder of another run.

    Raises:
        InputError: says what is there.
    """
    before = read_run(ledger)
    if replace_run:
        return
    if before is None:
        if (ledger.folder / CATALOG).exists():
            allowed = f"a folder without another's {CATALOG}, or replace_run to take it over"
            raise InputError("out", str(ledger.folder), allowed)
    elif before["question"] != plan.question:
        asked = ", ".join(f"{k} {v}" for k, v in before["question"].items() if v)
        allowed = f"another folder, or replace_run: this one is of another run ({asked})"
        raise InputError("out", str(ledger.folder), allowed)


def _begin(
    ledger: Ledger, plan: Plan, settings: Settings, model: str, keys: dict[str, str]
) -> None:
    """Write down what is asked, and clear away what a run that was cut off left."""
    for place in (".", ledger.home.name):
        ledger.sweep(place)
    plan.write(ledger.folder / PLAN)
    told = {
        "question": plan.question,
        "grid": plan.grid,
        "model": model,
        "settings": asdict(replace(settings, provider=None)),
        "skipped": len(plan.skipped),
        "started": time.time(),
        "jobs": {name: [value, plan.estimates[name].km2] for name, value in keys.items()},
    }
    write_text(ledger.home / RUN, json.dumps(told, indent=1))


def _do(
    ledger: Ledger,
    jobs: Iterable[Job],
    keys: dict[str, str],
    engine: Engine,
    work: Work,
    attempts: int,
    *,
    progress: bool,
) -> None:
    """Rounds: all that is not done; then what failed of it, when its time has come; and again."""
    waiting = [job for job in jobs if ledger.state(job.id, keys[job.id]) != "done"]
    begun = [job.id for job in waiting]
    for name in begun:
        ledger.sweep(name)
        if ledger.state(name, keys[name]) == "failed":
            ledger.forget(name)
    try:
        with tqdm(total=len(waiting), desc="map", unit="tile", disable=not progress) as bar:
            while waiting:
                waiting = _round(ledger, waiting, keys, engine, work, attempts, bar)
    finally:
        for name in begun:
            ledger.sweep(name)


def _round(
    ledger: Ledger,
    jobs: list[Job],
    keys: dict[str, str],
    engine: Engine,
    work: Work,
    attempts: int,
    bar: Any,
) -> list[Job]:
    """Run jobs once.

    Returns:
        those to be tried again, after the wait that this takes.
    """
    known, again, until = {job.id: job for job in jobs}, [], 0.0
    outcomes = engine.run(jobs, work)
    try:
        for outcome in outcomes:
            name = outcome.id
            if outcome.result is not None:
                ledger.done(name, keys[name], outcome.result)
                bar.update()
                continue
            record = ledger.failed(name, keys[name], outcome, attempts)
            if record.retry_at < float("inf"):
                again.append(known[name])
                until = max(until, record.retry_at)
            else:
                bar.update()
    finally:
        # Not left to the collector of garbage: workers end now.
        if isinstance(outcomes, Generator):
            outcomes.close()
    if again:
        time.sleep(max(0.0, until - time.time()))
    return again


def _done(ledger: Ledger, job: Job, keys: dict[str, str]) -> Result | None:
    return ledger.result(job.id) if ledger.state(job.id, keys[job.id]) == "done" else None


def _warn(ledger: Ledger, jobs: Sequence[Job], keys: dict[str, str], done: int) -> None:
    """Say what failed.

    Raises:
        WriteError: everything did.
    """
    if done == len(jobs):
        return
    lost = [job.id for job in jobs if _done(ledger, job, keys) is None]
    record = ledger.read(lost[0])
    text = f"{ledger.folder}: {len(lost)} of {len(jobs)} jobs failed, the first, {lost[0]}: "
    text += record.error if record is not None else "not tried"
    if not done:
        raise WriteError(text)
    warnings.warn(f"{text}; run again to try them anew", stacklevel=4)


def _drop_others(ledger: Ledger, keys: dict[str, str]) -> None:
    """Remove jobs of a former grid, now that all of this one's are done."""
    for name in ledger.names() - set(keys):
        ledger.clear(name)
        ledger.forget(name)
        with suppress(OSError):
            (ledger.folder / name).rmdir()


def _finish(folder: Path, plan: Plan, settings: Settings, results: Sequence[Result]) -> None:
    # Imported when the maps are there, so that who only plans does not wait for it.
    import_module(OUTPUTS).finish(folder, plan, settings, results)
