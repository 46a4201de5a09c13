"""SimCLR's views by torchvision, lightly and TorchGeo, for the benchmark of views.

torchvision's colour jitter, and lightly's which is the same, takes one or three bands: they get
three, so less work than ours and TorchGeo's.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightly.transforms import SimCLRTransform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchgeo.tasks.simclr import simclr_augmentations
from torchvision.transforms import v2

WORKERS = 2


class TwoViews(Dataset[Tensor]):
    """Images in memory, of which each sample is two views."""

    def __init__(self, images: Sequence[Any], transform: Callable[[Any], Sequence[Tensor]]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        """[2, C, H, W]."""
        return torch.stack(tuple(self.transform(self.images[index])))


def in_workers(
    images: Sequence[Any], transform: Callable[[Any], Sequence[Tensor]]
) -> Callable[[], int]:
    """All of them by two workers, each in one batch."""
    loader = DataLoader(
        TwoViews(images, transform),
        -(-len(images) // WORKERS),
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    return lambda: sum(batch.shape[0] * batch.shape[1] for batch in loader)


def torchvision(images: Tensor, options: argparse.Namespace, *, hue: float) -> Callable[[], int]:
    bands = min(3, options.bands)
    kernel = options.size // 10 // 2 * 2 + 1
    view = v2.Compose(
        [
            v2.RandomResizedCrop(options.size, scale=(0.08, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, hue)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(kernel, (0.1, 2.0))], p=0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.3] * bands, [0.2] * bands),
        ]
    )
    return in_workers(images, lambda image: (view(image), view(image)))


def lightly(images: Sequence[Any], options: argparse.Namespace) -> Callable[[], int]:
    return in_workers(images, SimCLRTransform(options.size))


def torchgeo(images: Tensor, options: argparse.Namespace) -> Callable[[], int]:
    """Without normalisation, which TorchGeo's datamodules do."""
    weights = torch.full((options.bands,), 1 / options.bands)
    views = simclr_augmentations(options.size, weights)

    def make() -> int:
        with torch.no_grad():
            return sum(len(views(images)) for _ in range(2))

    return make


def eight_bits(images: Tensor) -> Tensor:
    return (255 * images).round().byte()


def pictures(images: Tensor) -> list[Any]:
    return [v2.functional.to_pil_image(image) for image in eight_bits(images)]


type Start = Callable[[Tensor, argparse.Namespace], Callable[[], int]]

PEERS: dict[str, Start] = {
    "torchvision": lambda i, o: torchvision(i[:, :3], o, hue=0.2),
    "torchvision, no hue": lambda i, o: torchvision(i[:, :3], o, hue=0.0),
    "torchvision, 8 bits": lambda i, o: torchvision(eight_bits(i[:, :3]), o, hue=0.2),
    "lightly": lambda i, o: lightly(i[:, :3], o),
    "lightly, 8 bits": lambda i, o: lightly(pictures(i[:, :3]), o),
    "TorchGeo": torchgeo,
}
"""Name -> what takes images [B, C, H, W] and gives what makes and counts all of their views."""
