"""Labelled patches: which there are, what they show, and how they are drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler
from tqdm import tqdm

from rscontrast.datasets.onimages import LabelsOn
from rscontrast.datasets.pairs import PairSlice
from rscontrast.errors import InputError
from rscontrast.types import IGNORE


@dataclass(frozen=True)
class LabelledPatches:
    """Patches of pairs that have labels."""

    slices: list[PairSlice]
    """Where and when each is, [N]."""
    counts: NDArray[np.int64]
    """Pixels of each class in each, [N, classes]."""


def labelled_patches(
    places: Sequence[Sequence[PairSlice]], labels: LabelsOn, classes: int, *, progress: bool
) -> list[LabelledPatches]:
    """Read the labels of every pair of every place.

    Args:
        places: the pairs of each place of a grid.
        labels: what is read, over the time between the dates of a pair.
        classes: number of classes.
        progress: show a bar.

    Returns:
        one entry a place that has labels: its labelled pairs.

    Raises:
        InputError: a label is no class, or there are no labels at all.
        AssetError: a file cannot be read.
    """
    found = []
    for pairs in tqdm(places, desc="labels", unit="patch", disable=not progress, leave=False):
        counted = [(pair, _count(pair, labels, classes)) for pair in pairs]
        some = [(pair, count) for pair, count in counted if count.any()]
        if some:
            slices, counts = zip(*some, strict=True)
            found.append(LabelledPatches(list(slices), np.stack(counts)))
    if not found:
        allowed = f"pairs with {labels.asset!r} dated within them, on clear ground"
        raise InputError("pairs", f"{len(places)} patches without a label", allowed)
    return found


def _count(pair: PairSlice, labels: LabelsOn, classes: int) -> NDArray[np.int64]:
    x, y, (pre, post) = pair
    try:
        mask = labels[x, y, slice(pre.start, post.stop)]["mask"].numpy()
    except IndexError:  # no labelled item there within the pair
        return np.zeros(classes, dtype=np.int64)
    known = mask[mask != IGNORE]
    if known.size and known.max() >= classes:
        allowed = f"{known.max() + 1} or more, since a label is {known.max()}"
        raise InputError("number of classes (class_names)", classes, allowed)
    return np.bincount(known, minlength=classes)


def class_weights(counts: NDArray[np.int64]) -> list[float]:
    """Inverse square root of each class's frequency, mean 1 over the classes that occur.

    A class that does not occur gets 1: it has no pixel to weigh.

    Args:
        counts: pixels of each class.
    """
    seen = counts > 0
    weight = np.ones(len(counts))
    weight[seen] = 1 / np.sqrt(counts[seen] / counts.sum())
    weight[seen] /= weight[seen].mean()
    return [float(w) for w in weight]


class LabelledPatchSampler(Sampler[PairSlice]):
    """Draw patches with replacement, half of them from those that show a class other than 0."""

    def __init__(self, patches: LabelledPatches, length: int, seed: int) -> None:
        """Take the patches, the draws an epoch and their seed."""
        self.patches, self.length = patches, length
        foreground = patches.counts[:, 1:].sum(axis=1) > 0
        weight = np.where(foreground, 0.5 / max(1, int(foreground.sum())), 0.0)
        weight += np.where(~foreground, 0.5 / max(1, int((~foreground).sum())), 0.0)
        self.weight = weight / weight.sum()
        self.generator = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Draws an epoch."""
        return self.length

    def __iter__(self) -> Iterator[PairSlice]:
        """Yield the slices of each drawn patch."""
        for patch in self.generator.choice(len(self.weight), self.length, p=self.weight):
            yield self.patches.slices[patch]
