"""A dataset of numbers, without imports that a worker process would wait for."""

import threading
from collections import Counter

import torch
from torch.utils.data import Dataset

from rscontrast.errors import AssetError


class Numbers(Dataset):
    """Sample i holds i; the threads that read are noted."""

    thread_safe = True

    def __init__(self, length=20, bad=()):
        self.length, self.bad, self.read_by = length, bad, Counter()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.bad:
            raise AssetError(f"sample {index} is broken")
        self.read_by[threading.current_thread().name.partition("_")[0]] += 1
        return {"image": torch.full((2, 3), float(index)), "index": torch.tensor(index)}
