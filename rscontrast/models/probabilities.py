"""From a segmenter's logits to class probabilities, in log space, with a temperature.

Two kinds of heads, both of K channels:

- "one": a softmax over the K classes, log p_k = log_softmax(z / T)_k.
- "two": channel 0 asks whether there is a building, the other K - 1 how it is, given that there
  is one: log p_0 = log sigmoid(-z_0 / T), and for k > 0
  log p_k = log sigmoid(z_0 / T) + log_softmax(z_1.. / T)_k.

T is the temperature of calibration (Guo et al. 2017, arXiv 1706.04599, equation 9). The two heads
are the localisation and the classification of the xView2 baselines in one network; their product
is a reconstruction.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from rscontrast.errors import InputError, choose

HEADS = ("one", "two")


def require_heads(heads: str, classes: int) -> None:
    """Refuse heads that a number of classes does not fill.

    Raises:
        InputError: an unknown name, or too few classes.
    """
    choose("heads", heads, HEADS)
    least = 3 if heads == "two" else 2
    if classes < least:
        why = ": background and two grades" if heads == "two" else ", background included"
        raise InputError("classes", classes, f"{least} or more{why}")


def log_probabilities(logits: Tensor, heads: str = "one", temperature: float = 1.0) -> Tensor:
    """Log probability of each class, in float32 or finer.

    Args:
        logits: [B, K, ...].
        heads: "one" or "two".
        temperature: above 0; larger is less sure.

    Returns:
        [B, K, ...], whose exponentials sum to 1 over the classes.
    """
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    if heads == "one":
        return scaled.log_softmax(dim=1)
    building, grades = scaled[:, :1], scaled[:, 1:]
    graded = F.logsigmoid(building) + grades.log_softmax(dim=1)
    return torch.cat([F.logsigmoid(-building), graded], dim=1)
