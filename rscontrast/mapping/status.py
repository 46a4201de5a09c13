"""How far a run is, told from its folder alone."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rscontrast.errors import InputError
from rscontrast.mapping.ledger import Ledger, Record
from rscontrast.mapping.planned import as_time
from rscontrast.types import PathOrStr

RUN = "run.json"
"""What is asked of a folder: question, grid, keys of its jobs; in ``.ledger``."""

SHOWN = 5
"""Errors that are shown."""


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    folder: Path
    """Of the run."""
    done: int
    """Jobs whose files are there."""
    failed: int
    """Jobs that were tried and gave an error."""
    pending: int
    """Jobs that are still to be done, those done of something else included."""
    skipped: int
    """Tiles without an item before or after."""
    km2: float
    """Ground that is mapped, of done jobs."""
    km2_left: float
    """Ground of the other jobs, as planned."""
    rate: float | None
    """Square kilometres in a second; None: nothing is done yet."""
    errors: dict[str, str]
    """Of failed jobs."""

    @property
    def seconds_left(self) -> float | None:
        """Time that the rest takes at this rate; None: unknown."""
        return None if not self.rate else self.km2_left / self.rate

    @property
    def exit_code(self) -> int:
        """0: all is done; 3: some failed and none is pending; 4: some are pending."""
        return 4 if self.pending else 3 if self.failed else 0

    def __str__(self) -> str:
        """A few lines."""
        left = self.seconds_left
        rate = "-" if self.rate is None else f"{self.rate:.3g} km2/s"
        lines = [
            f"{self.folder}: {self.done} done, {self.failed} failed, {self.pending} pending,"
            f" {self.skipped} skipped",
            f"{self.km2:,.2f} km2 mapped, {self.km2_left:,.2f} km2 left, {rate},"
            f" {'-' if left is None else as_time(left)} left",
            *(f"failed: {name}: {error}" for name, error in list(self.errors.items())[:SHOWN]),
        ]
        more = len(self.errors) - SHOWN
        return "\n".join([*lines, *([f"and {more} more failed"] if more > 0 else [])])


def status(out: PathOrStr) -> Status:
    """Tell how far a run is; it may be running.

    Args:
        out: its folder.

    Raises:
        InputError: no run was begun there.
    """
    ledger = Ledger(out)
    told = read_run(ledger)
    if told is None:
        raise InputError("status", str(out), "the out of a run that was begun")
    count: Counter[str] = Counter()
    done: list[Record] = []
    errors: dict[str, str] = {}
    left = 0.0
    for name, (key, km2) in told["jobs"].items():
        state = ledger.state(name, key)
        count[state] += 1
        record = ledger.read(name)
        if state == "done" and record is not None:
            done.append(record)
            continue
        left += km2
        if state == "failed" and record is not None:
            errors[name] = record.error
    return Status(
        folder=ledger.folder, done=count["done"], failed=count["failed"],
        pending=count["pending"] + count["stale"], skipped=told["skipped"],
        km2=sum(r.result.km2 for r in done if r.result), km2_left=left,
        rate=_rate(done, told["started"]), errors=errors,
    )  # fmt: skip


def read_run(ledger: Ledger) -> dict[str, Any] | None:
    """What the last run into a folder was asked; None: there was none."""
    try:
        told: dict[str, Any] = json.loads((ledger.home / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told


def _rate(done: list[Record], started: float) -> float | None:
    """Of the jobs of this run by the clock; else of all by the time that each took."""
    now = [record for record in done if record.finished > started]
    seconds = max((r.finished for r in now), default=started) - started
    records = now
    if not now:
        records, seconds = done, sum(r.result.seconds for r in done if r.result)
    km2 = sum(record.result.km2 for record in records if record.result)
    return km2 / seconds if seconds > 0 else None
