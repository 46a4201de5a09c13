"""Where to compute, by the three names that every stage takes."""

import torch

from rscontrast.errors import InputError, choose

DEVICES = ("auto", "cpu", "gpu")


def torch_device(name: str) -> torch.device:
    """Device of a name.

    Args:
        name: "cpu", "gpu" (the first CUDA device), or "auto": a GPU where there is one.

    Raises:
        InputError: an unknown name, or "gpu" where torch sees none.
    """
    choose("device", name, DEVICES)
    if name == "gpu" and not torch.cuda.is_available():
        raise InputError("device", name, "auto or cpu: torch sees no GPU here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
