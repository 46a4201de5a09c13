"""Epochs of draws: each from its own seed, in disjoint shares, and resumed where they stopped."""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import batched, islice
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DistributedSampler, Sampler
from torchgeo.samplers import SpatioTemporalSampler

from rscontrast.errors import InputError, whole


class EpochShares[T](DistributedSampler[T]):
    """What all samplers have that share the draws of an epoch among ranks.

    Epoch e has one sequence of draws, that of (seed, e). Rank r of w takes the draws r, r + w,
    ...; a rest that does not go round is left out, so that all ranks have the same number. It is
    a torch DistributedSampler: Lightning calls its :meth:`set_epoch` and puts none of its own in
    its place.
    """

    def __init__(
        self,
        seed: int,
        rank: int | None = None,
        world: int | None = None,
        *,
        common: bool = True,
    ) -> None:
        """Start at epoch 0.

        Args:
            seed: of all epochs, 0 or more.
            rank: which share, 0 to ``world`` - 1; default: asked of torch.distributed each time.
            world: number of shares.
            common: whether all ranks have the seed; else there can be only one.

        Raises:
            InputError: a number out of range, or one of rank and world without the other.
        """
        # Not super().__init__: it asks for ranks now, before there are any.
        self.seed, self.epoch = whole("seed", seed, least=0), 0
        if (rank is None) != (world is None):
            raise InputError("rank, world", (rank, world), "both or neither")
        if rank is not None and world is not None:
            whole("world", world)
            if whole("rank", rank, least=0) >= world:
                raise InputError("rank", rank, f"0 to {world - 1}, since world is {world}")
        self._share = None if rank is None or world is None else (rank, world)
        self._start = self._drawn = self._turn = 0
        self._common = common

    @abstractmethod
    def epoch_draws(self, seeds: np.random.SeedSequence) -> Iterable[T]:
        """All draws of one epoch, over all ranks: the same for the same seeds."""

    @abstractmethod
    def epoch_length(self) -> int:
        """Number of these."""

    def _now(self) -> tuple[int, int]:
        """Rank and number of ranks."""
        if self._share is not None:
            return self._share
        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
        return 0, 1

    # torch's DistributedSampler holds these two as plain attributes.
    @property
    def rank(self) -> int:  # type: ignore[override]  # looked up each time
        """Which share is this process's."""
        return self._now()[0]

    @property
    def num_replicas(self) -> int:  # type: ignore[override]  # looked up each time
        """Number of shares."""
        return self._now()[1]

    def __len__(self) -> int:
        """Draws of this rank in a whole epoch."""
        return self.epoch_length() // self.num_replicas

    def __iter__(self) -> Iterator[T]:
        """Yield this rank's draws: of the whole epoch, or of what a loaded state left of it.

        At the end the next epoch begins. Iterated again before, it yields the same draws.

        Raises:
            InputError: several ranks, and no seed that they have in common.
        """
        (rank, world), epoch, self._drawn = self._now(), self.epoch, self._start
        if world > 1 and not self._common:
            raise InputError("generator", None, "a seed, since ranks share the draws")
        self._turn += 1
        turn = self._turn  # an iterator that was left behind must not move the newest one's state
        draws = self.epoch_draws(np.random.SeedSequence([self.seed, epoch]))
        for group in batched(islice(draws, self._start, None), world):
            if len(group) < world:
                break
            if turn == self._turn:
                self._drawn += world
            yield group[rank]
        if turn == self._turn and epoch == self.epoch:
            self.set_epoch(epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; in the current one this changes nothing."""
        if epoch != self.epoch:
            self.epoch = whole("epoch", epoch, least=0)
            self._start = self._drawn = 0

    def state_dict(self) -> dict[str, int]:
        """Where the draws are: ``seed``, ``epoch``, its ``length``, and ``drawn`` in it.

        Both numbers of draws are over all ranks.
        """
        length = self.epoch_length()
        return {"seed": self.seed, "epoch": self.epoch, "length": length, "drawn": self._drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken, at any number of ranks: the rest is shared anew.

        Raises:
            InputError: it is no state of such a sampler, or of one with another length or seed.
        """
        names = ("seed", "epoch", "length", "drawn")
        if not isinstance(state, Mapping) or set(state) != set(names):
            raise InputError("state", state, f"the state_dict of such a sampler: {names}")
        seed, epoch, length, drawn = (whole(name, state[name], least=0) for name in names)
        here = self.epoch_length()
        if length != here or drawn > length:
            allowed = f"a state of {here} draws an epoch: resume with the same `length`"
            raise InputError("length, drawn", (length, drawn), allowed)
        if self._common and seed != self.seed:
            raise InputError("seed", seed, f"a state of seed {self.seed}: resume with the same")
        self.seed, self.epoch, self._start = seed, epoch, drawn
        self._drawn, self._common = self._start, True


class EpochSampler(EpochShares[Any]):
    """Any sampler of this package or of TorchGeo, also ``a @ b``, made fit for training.

    Its draws follow from (seed, epoch) whatever the number of workers and ranks, ranks take
    disjoint shares, and ``state_dict`` resumes in mid-epoch. The wrapped sampler is not changed:
    each epoch draws from a shallow copy, with new generators for its spatial and temporal half.

    Where a TemporalPairSampler with ``min_valid`` has fewer than ``tries`` pairs at a random patch,
    the spares that are wanting are drawn at other patches, by a stream of the spatial sampler that
    has a seed of its own. The cells of a grid are not left for others.

    Without it, Lightning wraps ``a @ b`` itself in distributed runs: every rank lists the whole
    epoch before its first batch and takes every n-th draw of the list. The shares are disjoint
    then only if both samplers were given the same int as ``generator`` on all ranks (or equal
    generators); without a generator each rank has a list of its own, so that draws can come twice
    or never. Draws are also repeated where the length is no multiple of the ranks, and a run that
    is resumed begins with the draws of epoch 0.
    """

    def __init__(
        self,
        sampler: Sampler[Any],
        *,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        """Wrap a sampler.

        Args:
            sampler: one whose chance comes from a numpy generator, or that has none.
            seed: of all epochs, 0 or more.
            rank: which share, 0 to ``world`` - 1; default: torch.distributed's when it is
                initialised, asked each time, else the only one.
            world: number of shares.

        Raises:
            InputError: a number out of range, or chance that cannot be seeded here; that of a
                sampler of batches never is.
        """
        super().__init__(seed, rank, world)
        for part in _parts(sampler):
            _require_seedable(part)
        self.sampler = sampler

    def epoch_draws(self, seeds: np.random.SeedSequence) -> Iterable[Any]:
        """Draws of the wrapped sampler, reseeded."""
        return _reseeded(self.sampler, seeds)

    def epoch_length(self) -> int:
        """Length of the wrapped sampler."""
        return self._total

    @cached_property
    def _total(self) -> int:
        if isinstance(self.sampler, EpochShares):
            return self.sampler.epoch_length()
        # On a copy: some of TorchGeo's iterate to find it, which would move their generators.
        return len(_copy(self.sampler, np.random.SeedSequence(0)))


def _parts(sampler: Any) -> tuple[Any, ...]:
    if isinstance(sampler, SpatioTemporalSampler):
        return sampler.spatial_sampler, sampler.temporal_sampler
    return (sampler,)


def _require_seedable(sampler: Any) -> None:
    if isinstance(sampler, EpochShares):
        return
    seeded = isinstance(getattr(sampler, "generator", None), np.random.Generator)
    if _by_chance(sampler) and not seeded:
        allowed = "a sampler of ours or TorchGeo's whose `generator` is numpy's, or without chance"
        raise InputError("sampler", type(sampler).__name__, allowed)


def _by_chance(sampler: Any) -> bool:
    """Whether a sampler, or the one whose draws it groups, draws at random."""
    if isinstance(sampler, DistributedSampler) or hasattr(sampler, "generator"):
        return True
    inner = getattr(sampler, "sampler", None)
    within = inner is not None and any(map(_by_chance, _parts(inner)))
    return within or getattr(sampler, "strategy", None) == "random"


def _reseeded(sampler: Any, seeds: np.random.SeedSequence) -> Iterable[Any]:
    shared = isinstance(sampler, EpochShares)
    draws: Iterable[Any] = sampler.epoch_draws(seeds) if shared else _copy(sampler, seeds)
    return draws


def _copy(sampler: Any, seeds: np.random.SeedSequence) -> Any:
    """A shallow copy with new generators, independent of each other."""
    one = copy.copy(sampler)
    if isinstance(sampler, SpatioTemporalSampler):
        space, time, elsewhere = seeds.spawn(3)
        one.spatial_sampler = _copy(sampler.spatial_sampler, space)
        one.temporal_sampler = _copy(sampler.temporal_sampler, time)
        if sampler.spatial_sampler.strategy == "random" and hasattr(one.temporal_sampler, "others"):
            one.temporal_sampler.others = _endless(sampler.spatial_sampler, elsewhere)
    elif hasattr(sampler, "generator"):
        one.generator = np.random.default_rng(seeds)
    if isinstance(sampler, EpochShares):
        one._share = (0, 1)  # as a half it draws for all ranks
    return one


def _endless(sampler: Any, seeds: np.random.SeedSequence) -> Iterator[Any]:
    """Epoch after epoch of a sampler."""
    while True:
        yield from _copy(sampler, seeds.spawn(1)[0])
