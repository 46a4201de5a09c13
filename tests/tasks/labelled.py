"""A labelled datamodule as users have them, of images that show their class."""

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from rscontrast.errors import InputError


class Shapes(pl.LightningDataModule):
    """Three classes by the mean of each band; ``kind`` says what the batches hold."""

    def __init__(self, kind: str = "labelled", spread: float = 0.3, bands: int = 4) -> None:
        super().__init__()
        if kind not in ("labelled", "unlabelled", "shuffled"):
            raise InputError("kind", kind, "another one")
        self.kind, self.spread, self.bands = kind, spread, bands

    def samples(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        centres = 2 * torch.randn(3, self.bands, 1, 1, generator=torch.Generator().manual_seed(99))
        labels = torch.arange(count) % 3
        noise = torch.randn(count, self.bands, 16, 16, generator=generator)
        images = centres[labels] + self.spread * noise
        if self.kind == "shuffled":
            labels = labels[torch.randperm(count, generator=generator)]
        found = [{"image": i, "label": c} for i, c in zip(images, labels, strict=True)]
        return [{"image": s["image"]} for s in found] if self.kind == "unlabelled" else found

    def train_dataloader(self):
        # Shuffled by torch's own numbers, which a probe must not use up.
        return DataLoader(self.samples(30, 1), batch_size=15, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.samples(24, 2), batch_size=12)


class Normalised(Shapes):
    """Of which the embeddings are right only behind ``val_aug``, as TorchGeo's datamodules."""

    def val_aug(self, batch):
        return {**batch, "image": (batch["image"] - 500.0) / 100.0}

    def samples(self, count, seed):
        return [s | {"image": 100.0 * s["image"] + 500.0} for s in super().samples(count, seed)]
