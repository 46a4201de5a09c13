"""What runs the jobs of a run: one method, behind which is a loop, processes or a cluster.

An engine knows nothing of maps: it takes jobs and a function, and gives what came of each as it
comes. It may run a job twice (a worker that was lost takes its job with it), so that ``work`` must
write whole files or none, and the same each time.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from rscontrast.errors import AssetError, RSContrastError, WriteError
from rscontrast.mapping.job import Job, Result

type Work = Callable[[Job], Result]
"""Maps a job; picklable, since it travels to workers."""


@dataclass(frozen=True)
class Outcome:
    """What came of one job: a result, or an error."""

    id: str
    """Of the job."""
    result: Result | None = None
    """What it wrote."""
    error: str = ""
    """Why it wrote nothing: one line."""
    passing: bool = True
    """Whether another try may do better."""


class Engine(Protocol):
    """How jobs are run."""

    def run(self, jobs: Iterable[Job], work: Work) -> Iterator[Outcome]:
        """Run every job once; an error of one is its outcome and stops no other.

        Leaving the iterator (an error, Ctrl-C) ends what is still at work, and no process stays.

        Args:
            jobs: in the order in which they are begun.
            work: called in a worker, which keeps what it loaded for the next job.

        Yields:
            one outcome a job, as they finish.
        """


def attempt(work: Work, job: Job) -> Outcome:
    """Run one job here; whatever it raises becomes its outcome."""
    try:
        return Outcome(job.id, work(job))
    except Exception as error:
        text = " ".join(str(error).split())
        known = isinstance(error, RSContrastError)
        # What is wrong with the input stays wrong; a server or a disk may come back.
        passing = not known or isinstance(error, AssetError | WriteError)
        return Outcome(job.id, None, text if known else f"{type(error).__name__}: {text}", passing)
