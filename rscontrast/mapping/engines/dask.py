"""Dask's distributed scheduler: a cluster that runs already, or one of processes on this machine.

The jobs go in as a graph of one task each. Dask places them, moves them when workers come and go
(adaptive scaling), and runs a job again whose worker was lost.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

from distributed import Client, Future, LocalCluster, as_completed

from rscontrast.errors import InputError, positive, whole
from rscontrast.mapping.engine import Outcome, Work, attempt
from rscontrast.mapping.job import Job

AHEAD = 1024
"""Jobs that the scheduler knows at a time: enough to scale by, few enough for its memory."""


class Dask:
    """Run jobs on a cluster of Dask."""

    def __init__(
        self,
        workers: int = 1,
        address: str | None = None,
        client: Client | None = None,
        patience: float = 10.0,
    ) -> None:
        """Say where; nothing is started yet.

        Args:
            workers: processes of a cluster on this machine, each with one thread; with an
                address or a client, the cluster's own count.
            address: of the scheduler of a cluster that runs: "tcp://host:8786".
            client: of a cluster that runs, which stays open.
            patience: seconds to wait for an answer at the address.

        Raises:
            InputError: fewer than 1 worker.
        """
        self.workers, self.address, self.client = whole("workers", workers), address, client
        self.patience = positive("patience", patience)

    def run(self, jobs: Iterable[Job], work: Work) -> Iterator[Outcome]:
        """See :class:`rscontrast.mapping.engine.Engine`.

        Raises:
            InputError: no cluster answers at the address.
        """
        with ExitStack() as stack:
            client = self.client or self._connect(stack)
            waiting = iter(jobs)
            first = self._submit(client, list(islice(waiting, AHEAD)), work)
            at_work = dict(first)
            stack.callback(self._leave, client, at_work)
            done = as_completed(list(at_work))
            for future in done:
                job = at_work.pop(future)
                yield _outcome(future, job)
                more = self._submit(client, list(islice(waiting, 1)), work)
                at_work |= more
                done.update(list(more))

    def _connect(self, stack: ExitStack) -> Client:
        if self.address is not None:
            try:
                return stack.enter_context(Client(self.address, timeout=self.patience))
            except (OSError, ValueError) as error:
                allowed = f"the address of a scheduler that runs ({error})"
                raise InputError("address", self.address, allowed) from error
        # Jobs bound their own memory; nobody but this process needs to reach the cluster.
        cluster = LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=None,
            silence_logs=logging.ERROR,
        )
        stack.enter_context(cluster)
        return stack.enter_context(Client(cluster))

    def _submit(self, client: Client, jobs: list[Job], work: Work) -> dict[Future, Job]:
        if not jobs:
            return {}
        # Not pure: a job is run again in a further round though its task has the same name.
        futures = client.map(attempt, [work] * len(jobs), jobs, pure=False, key="map-job")
        return dict(zip(futures, jobs, strict=True))

    def _leave(self, client: Client, at_work: dict[Future, Job]) -> None:
        """Take back what has not begun; what runs on a lasting cluster comes to its end there."""
        client.cancel(list(at_work), force=True)


def _outcome(future: Future, job: Job) -> Outcome:
    error: Any = future.exception()
    if error is None:
        outcome: Outcome = future.result()
        return outcome
    text = " ".join(str(error).split())
    return Outcome(job.id, None, f"its worker was lost ({type(error).__name__}: {text})")
