"""What a worker does with a job: the model is loaded once a process, at its first job."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from rscontrast.mapping.job import Job, Result, Settings

PREDICT = "rscontrast.mapping.predict"


@dataclass(frozen=True)
class MapWork:
    """Maps jobs by one model into one folder; small, and picklable by name."""

    settings: Settings
    """How."""
    folder: str
    """Where to."""

    def __call__(self, job: Job) -> Result:
        """Map a job.

        Raises:
            CheckpointError, AssetError, GridError, TrainingError, WriteError: see
                :func:`rscontrast.mapping.predict.map_job`.
        """
        map_job: Callable[..., Result] = import_module(PREDICT).map_job
        return map_job(job, _model(self.settings), self.settings, Path(self.folder))


_loading = threading.Lock()


def _model(settings: Settings) -> Any:
    with _loading:  # threads of one worker share the model
        return _load(settings)


@lru_cache(maxsize=1)
def _load(settings: Settings) -> Any:
    # Not imported with this module, so that who only plans or waits does not wait for torch.
    return import_module(PREDICT).load(settings)
