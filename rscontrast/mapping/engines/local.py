"""Processes of this machine, or none: no server, nothing to set up.

Each process takes one job after the other through a pipe of its own. One that is lost (killed,
out of memory) takes its job with it, which fails as any job can, and another takes its place.
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from rscontrast.errors import InputError, whole
from rscontrast.mapping.engine import Outcome, Work, attempt
from rscontrast.mapping.job import Job

GRACE = 10.0
"""Seconds that a worker gets to clear away what it began, before it is killed."""


@dataclass
class _Worker:
    """A process, our end of its pipe, and what it is at."""

    process: BaseProcess
    pipe: Connection
    slot: int
    job: Job
    ready: bool = False


class Local:
    """Run jobs in processes of this machine."""

    def __init__(self, workers: int = 1, gpus: Sequence[str] = ()) -> None:
        """Say how many; nothing is started yet.

        Args:
            workers: processes; 0 or 1: the jobs run in this one.
            gpus: what ``CUDA_VISIBLE_DEVICES`` is in each worker, in turn: ("0", "1") gives each
                GPU a worker, or several. Empty: as it is here.

        Raises:
            InputError: fewer than 0 workers.
        """
        self.workers, self.gpus = whole("workers", workers, least=0), tuple(gpus)

    def run(self, jobs: Iterable[Job], work: Work) -> Iterator[Outcome]:
        """See :class:`rscontrast.mapping.engine.Engine`.

        Raises:
            InputError: workers end before they begin, as in a script that is not guarded.
        """
        if self.workers <= 1:
            return (attempt(work, job) for job in jobs)
        return _Pool(self.workers, self.gpus, work).run(jobs)


class _Pool:
    def __init__(self, count: int, gpus: tuple[str, ...], work: Work) -> None:
        self.count, self.gpus, self.work = count, gpus, work
        # Not forked: threads of readers and of torch would be copied in mid-step.
        self.context = get_context("spawn")
        self.workers: list[_Worker] = []

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        waiting = iter(jobs)
        try:
            for slot in range(self.count):
                job = next(waiting, None)
                if job is None:
                    break
                self._start(slot, job)
            while self.workers:
                for worker in self._changed():
                    outcome = self._hear(worker)
                    if outcome is not None:
                        self._next(worker, next(waiting, None))
                        yield outcome
        finally:
            self._end()

    def _start(self, slot: int, job: Job) -> None:
        ours, theirs = self.context.Pipe()
        gpu = self.gpus[slot % len(self.gpus)] if self.gpus else None
        process = self.context.Process(target=_serve, args=(theirs, self.work, gpu), daemon=True)
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours, slot, job))

    def _changed(self) -> list[_Worker]:
        """Workers that said something, or are gone."""
        pipes = connection.wait([worker.pipe for worker in self.workers])
        return [worker for worker in self.workers if worker.pipe in pipes]

    def _hear(self, worker: _Worker) -> Outcome | None:
        """What came of its job; None: it has only come up."""
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        if isinstance(said, Outcome):
            return said
        worker.ready = True
        self._send(worker)
        return None

    def _send(self, worker: _Worker) -> None:
        with suppress(OSError):  # one that is lost is heard of in its turn
            worker.pipe.send(worker.job)

    def _lost(self, worker: _Worker) -> Outcome:
        worker.process.join(GRACE)
        code = worker.process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        if not worker.ready and code and code > 0:
            allowed = "1 in a script that does not call it under if __name__ == '__main__'"
            raise InputError("workers", f"{self.count}, one ended before it began ({how})", allowed)
        self.workers.remove(worker)
        worker.pipe.close()
        return Outcome(worker.job.id, None, f"its worker was lost ({how}); out of memory?")

    def _next(self, worker: _Worker, job: Job | None) -> None:
        if worker not in self.workers:
            if job is not None:
                self._start(worker.slot, job)
            return
        if job is not None:
            worker.job = job
            self._send(worker)
            return
        with suppress(OSError):
            worker.pipe.send(None)
        self.workers.remove(worker)
        worker.process.join(GRACE)
        worker.pipe.close()

    def _end(self) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self.workers.clear()


def _serve(pipe: Connection, work: Work, gpu: str | None) -> None:
    """What a worker does: jobs, until there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    pipe.send("ready")
    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        while (job := pipe.recv()) is not None:
            pipe.send(attempt(work, job))


def _leave(*_: Any) -> None:
    raise SystemExit(143)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
