"""A DataLoader that reads ahead on threads of its own process.

Reading is decoding and waiting, and both let go of Python's lock: threads share one set of file
handles and blocks, cost no start-up and no copy between processes. Worker processes, fork,
forkserver or spawn, stay an option (``num_workers``).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from math import ceil
from threading import get_ident
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler
from torch.utils.data._utils.pin_memory import pin_memory as pin
from torchgeo.datasets import stack_samples

from rscontrast.errors import InputError, whole

THREADS = 4
"""Samples that are read at a time from a dataset that many threads may read."""
PREFETCH = 2
"""Batches that are read ahead."""

type State = dict[str, Any]


class PairLoader(DataLoader[Any]):
    """A DataLoader, in the sampler's order, with reading off the main thread.

    It says how far it was *consumed* (:meth:`state_dict`), whatever was read ahead; Lightning
    puts that into its checkpoints, so that a run that was cut goes on with the very next batch.

    An iterator does nothing before its first batch is asked for. One that is dropped, closed or
    ended by an error leaves no thread behind.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        *,
        threads: int | None = None,
        prefetch: int | None = None,
        **options: Any,
    ) -> None:
        """Take what a DataLoader takes, and two arguments of its own.

        Args:
            dataset: any dataset. Many threads read it if it says ``thread_safe = True``.
            batch_size: see DataLoader, as all arguments that are not explained here.
            shuffle: see DataLoader.
            sampler: one with ``state_dict``, as EpochSampler, is continued by its own state. Any
                other is continued by leaving out as many batches, which is right only where it
                gives the same order again: a state in mid-epoch is refused for ``shuffle`` and
                other samplers of torch that have no generator.
            batch_sampler: see DataLoader.
            num_workers: 0: threads of this process; more: reading processes.
            collate_fn: default: TorchGeo's ``stack_samples``, or nothing for single samples.
            pin_memory: put batches into page-locked memory, off the main thread; where torch
                sees no device that copies from such memory, nothing is done and nothing said.
            threads: that read at a time, only where ``num_workers`` is 0; default: 4, or 1 for
                a dataset that does not say that it is thread-safe.
            prefetch: batches to read ahead, 1 or more (of each worker, if there are any); default:
                2, or as many as keep the threads busy where batches are small.
            **options: further keyword arguments of DataLoader.

        Raises:
            InputError: several threads for a dataset that one thread must read, threads beside
                workers, or a number out of range.
        """
        check_reading(num_workers, threads, prefetch)
        safe = getattr(dataset, "thread_safe", False)
        if threads is not None and threads > 1 and not safe:
            kind = type(dataset).__name__
            raise InputError("threads", threads, f"1: {kind} does not say thread_safe = True")
        # Kept as they came, since Lightning makes a loader anew from its attributes.
        self.threads, self.prefetch = threads, prefetch
        if num_workers > 0:
            options.setdefault("prefetch_factor", prefetch or PREFETCH)
        if collate_fn is None and (batch_size is not None or batch_sampler is not None):
            collate_fn = stack_samples
        self._state: State | None = None
        self._skip = 0
        super().__init__(
            dataset,
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            num_workers,
            collate_fn,
            pin_memory and _device() is not None,
            **options,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's is a class of its own
        """Yield batches.

        Raises:
            Exception: whatever reading a sample raises, in place of its batch.
        """
        batches: Iterator[Any]
        if self.num_workers or isinstance(self.dataset, IterableDataset):
            batches = workers = super().__iter__()
            steps: _Steps = workers._index_sampler
        else:
            steps = self._index_sampler
            batches = self._read(steps)
        for batch in batches:
            self._state = steps.consumed()
            yield batch

    @property
    def _index_sampler(self) -> "_Steps":
        """What to read for each batch; torch's own iterators ask for it too."""
        return _Steps(self, super()._index_sampler)

    def _read(self, steps: "_Steps") -> Iterator[Any]:
        threads = self.threads or (THREADS if getattr(self.dataset, "thread_safe", False) else 1)
        size = self.batch_size or (threads if self._auto_collation else 1)
        prefetch = self.prefetch or max(PREFETCH, ceil(2 * threads / size))
        ahead: deque[Future[Any]] = deque()
        with _pools(threads, _device() if self.pin_memory else None) as (readers, finisher):
            for keys in steps:
                each = keys if self._auto_collation else [keys]
                read = [readers.submit(self.dataset.__getitem__, key) for key in each]
                ahead.append(finisher.submit(self._finish, read))
                if len(ahead) > prefetch:
                    yield ahead.popleft().result(self.timeout or None)
            while ahead:
                yield ahead.popleft().result(self.timeout or None)

    def _finish(self, read: list[Future[Any]]) -> Any:
        samples = [sample.result() for sample in read]
        batch = self.collate_fn(samples if self._auto_collation else samples[0])
        return pin(batch) if self.pin_memory else batch  # type: ignore[no-untyped-call]  # torch's

    @property
    def _stateful(self) -> Any:
        """The sampler that knows its own state, if one does."""
        within = getattr(self.batch_sampler, "sampler", self.sampler)
        found = (s for s in (self.batch_sampler, within) if hasattr(s, "state_dict"))
        return next(found, None)

    def state_dict(self) -> State:
        """What to go on from: the sampler's state at the last batch that was taken.

        After the last batch of an epoch this is the beginning of the next.
        """
        return self._position(self._skip) if self._state is None else self._state

    def load_state_dict(self, state: State) -> None:
        """Go on from there with the next iterator.

        Raises:
            InputError: the state is of a loader over another kind of sampler, or of more batches
                than there are; or the sampler draws another order each time.
        """
        kind = "batches" if self._stateful is None else "sampler"
        if not isinstance(state, Mapping) or kind not in state:
            got = sorted(state) if isinstance(state, Mapping) else state
            raise InputError("state", got, f"the state of a loader with {kind!r}")
        if self._stateful is None:
            self._skip = self._possible(state["batches"])
        else:
            self._stateful.load_state_dict(state["sampler"])
        self._state = None

    def _possible(self, batches: int) -> int:
        """Refuse a number of batches that cannot be left out."""
        if whole("batches", batches, least=0) == 0:
            return 0
        within = getattr(self.batch_sampler, "sampler", self.sampler)
        if getattr(within, "generator", within) is None:
            allowed = "0, since shuffle draws anew: give a sampler with state_dict, as EpochSampler"
            raise InputError("batches", batches, allowed)
        with suppress(TypeError):  # a stream has no length
            if batches >= len(self):
                raise InputError("batches", batches, f"less than {len(self)}, those of an epoch")
        return batches

    def _position(self, batches: int) -> State:
        sampler = self._stateful
        return {"batches": batches} if sampler is None else {"sampler": sampler.state_dict()}


class _Steps:
    """The keys of each batch, with a note of where the sampler stood after them.

    The sampler runs ahead of what is consumed by what is read ahead: so its state is noted as
    each batch is drawn and taken up when that batch is.
    """

    def __init__(self, loader: PairLoader, keys: Iterable[Any]) -> None:
        self._loader, self._keys = loader, keys
        self._states: deque[State] = deque()
        self._over = False

    def __len__(self) -> int:
        return len(self._keys)  # type: ignore[arg-type]  # as torch: where the sampler has a length

    def __iter__(self) -> Iterator[Any]:
        loader = self._loader
        self._states.clear()
        self._over, loader._skip, skip = False, 0, loader._skip
        if loader._state is None:
            loader._state = loader._position(skip)
        for count, keys in enumerate(islice(self._keys, skip, None), skip + 1):
            self._states.append(loader._position(count))
            yield keys
        self._states.append(loader._position(0))
        self._over = True

    def consumed(self) -> State:
        """Note that one more batch was consumed; return where that leaves the sampler."""
        state = self._states.popleft()
        return self._states.popleft() if self._over and len(self._states) == 1 else state


def check_reading(num_workers: int, threads: int | None, prefetch: int | None) -> None:
    """Refuse what a loader cannot be told.

    Raises:
        InputError: a number out of range, or threads beside workers.
    """
    whole("num_workers", num_workers, least=0)
    if prefetch is not None:
        whole("prefetch", prefetch)
    if threads is not None:
        whole("threads", threads)
        if num_workers:
            raise InputError("threads", threads, "None with num_workers: these read, one by one")


@contextmanager
def _pools(
    threads: int, device: int | None
) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """Threads that read samples, and one that makes batches of them; all are gone at the end."""
    own: set[int] = set()

    def enter() -> None:
        own.add(get_ident())
        if device is not None:
            # Pinning on another device than the training's would take memory there.
            torch.accelerator.set_device_index(device)

    readers = ThreadPoolExecutor(threads, "read", enter)
    finisher = ThreadPoolExecutor(1, "finish", enter)
    try:
        yield readers, finisher
    finally:
        # The garbage collector may end an iterator on one of its threads: that cannot await itself.
        wait = get_ident() not in own
        for pool in (readers, finisher):
            pool.shutdown(wait, cancel_futures=True)


def _device() -> int | None:
    """Number of the device that copies from pinned memory; None where there is none."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    # torch does not pin for Apple's devices either: they share the memory.
    if accelerator is None or accelerator.type == "mps":
        return None
    return torch.accelerator.current_device_index()
