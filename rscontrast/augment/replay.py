"""What repeats views: all that was drawn for them, and the seeds that it is drawn from."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from rscontrast.errors import InputError, whole


@dataclass(frozen=True, eq=False)
class ViewParams:
    """All that was drawn for the views of a batch: the same views, bit for bit, come of it.

    They do so from the same module, batch and device; on another device up to rounding.
    """

    matrix: Tensor
    """[B, V, 3, 3]: where each view lies, see :func:`rscontrast.augment.geometry.draw`."""
    operations: tuple[Mapping[str, Tensor], ...]
    """Of each operation on the spectrum what it drew, by name: [B, V, ...]."""
    names: tuple[str, ...]
    """Of the operations."""
    size: tuple[int, int]
    """(h, w) of a view, pixels."""
    shape: tuple[int, int]
    """(H, W) of a patch."""
    whole: bool = True
    """Whether it is all of a batch, in its order."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.matrix)

    def __getitem__(self, samples: slice | Tensor) -> "ViewParams":
        """Parameters of some samples, by a slice or a tensor of numbers.

        Raises:
            InputError: it is neither.
        """
        if not isinstance(samples, slice | Tensor):
            raise InputError("samples", samples, "a slice or a tensor of numbers")
        some = self._each(lambda drawn: drawn[samples.to(drawn.device)]
                          if isinstance(samples, Tensor) else drawn[samples])  # fmt: skip
        return replace(some, whole=False)

    def to(self, device: torch.device | str) -> "ViewParams":
        """Copy to a device."""
        return self._each(lambda drawn: drawn.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "ViewParams":
        operations = tuple(
            {name: change(drawn) for name, drawn in one.items()} for one in self.operations
        )
        return replace(self, matrix=change(self.matrix), operations=operations)


class Seeds:
    """Generators for one call after the other, from one seed; without a seed torch's own.

    Views are drawn where the batch is, in the process that trains: how many workers read the
    batches changes nothing. Call n of rank r draws from (seed, r, n), so a run on as many ranks
    repeats itself, and goes on as it would have from a ``calls`` that was kept. A single sample is
    seen to in whatever process or thread reads it, which no count outlives: it draws from its own
    pixels, (seed, checksum of the image), and gets the same views wherever and whenever it is read.

    Random numbers of a CPU are others than those of a GPU.
    """

    def __init__(self, seed: int | None) -> None:
        """Take the seed, a whole number; None: torch's own generator of the device.

        Raises:
            InputError: it is below 0.
        """
        self.seed = None if seed is None else whole("seed", seed, least=0)
        self.calls = 0

    def batch(self, device: torch.device) -> torch.Generator | None:
        """Generator of the next call."""
        if self.seed is None:
            return None
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        self.calls += 1
        return _generator(device, self.seed, rank, self.calls)

    def sample(self, image: Tensor) -> torch.Generator | None:
        """Generator of a single sample."""
        if self.seed is None:
            return None
        pixels = image.detach().cpu().contiguous().view(torch.uint8)
        return _generator(image.device, self.seed, zlib.crc32(pixels.numpy().data))


def _generator(device: torch.device, *words: int) -> torch.Generator:
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))
