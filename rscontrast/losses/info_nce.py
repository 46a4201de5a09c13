"""NT-Xent: every other embedding of the batch is a negative (SimCLR, arXiv 2002.05709, eq. 1).

The pieces that the batch-contrastive losses share live here too. N patches give 2N embeddings,
ordered [view 1 of all, view 2 of all], so that partner(i) = (i + N) mod 2N.
"""

import math

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError
from rscontrast.losses.output import LossOutput


def info_nce(view1: Tensor, view2: Tensor, *, temperature: float = 0.5) -> LossOutput:
    r"""Contrast every embedding with its partner against all others of the batch.

    .. math:: L = \frac{1}{2N} \sum_i \Big[ \log \sum_{j \neq i} e^{\cos_{ij} / t}
              - \cos_{i,partner(i)} / t \Big]

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", eq. 1, averaged over all 2N anchors.

    Args:
        view1: [N, D] embeddings of the first views, N >= 2; normalised here.
        view2: [N, D] embeddings of the second views, in the same order.
        temperature: t, a finite number above 0.

    Returns:
        The loss, at least float32 also under autocast, and ``positive_similarity``: the mean
        cosine of the partners.

    Raises:
        InputError: a bad temperature; shapes that differ or are not [N >= 2, D >= 1].
    """
    check_temperature(temperature)
    check_views(view1, view2)
    with torch.autocast(view1.device.type, enabled=False):
        logits = similarity_logits(view1, view2, temperature)
        positive = partner_values(logits)
        loss = (logits.logsumexp(1) - positive).mean()
    similarity = positive.detach().mean() * temperature
    return LossOutput(loss, {"positive_similarity": similarity})


class InfoNCE(nn.Module):
    """Holds the arguments of :func:`info_nce`."""

    def __init__(self, temperature: float = 0.5) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`info_nce`.
        """
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, view1: Tensor, view2: Tensor) -> LossOutput:
        """See :func:`info_nce`."""
        return info_nce(view1, view2, temperature=self.temperature)


def similarity_logits(view1: Tensor, view2: Tensor, temperature: float) -> Tensor:
    """Cosines of all pairs over the temperature: [2N, 2N], the diagonal -inf.

    Half precision is raised to float32. The division is done on the embeddings, so that the
    matrix exists once.
    """
    z = torch.cat([view1, view2])
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    z = nn.functional.normalize(z, dim=1)
    return ((z / temperature) @ z.T).fill_diagonal_(-math.inf)


def partner_index(matrix: Tensor) -> Tensor:
    """Partner of each row of a [2N, 2N] matrix: [2N, 1], for ``gather`` and ``scatter``."""
    count = matrix.shape[0]
    return torch.arange(count, device=matrix.device).roll(count // 2).unsqueeze(1)


def partner_values(matrix: Tensor) -> Tensor:
    """Entries (i, partner(i)) of a [2N, 2N] matrix: [2N]."""
    return matrix.gather(1, partner_index(matrix)).squeeze(1)


def check_temperature(temperature: float) -> float:
    """Return ``temperature`` if it is finite and above 0.

    Raises:
        InputError: it is not (NaN included).
    """
    if not 0 < temperature < math.inf:
        raise InputError("temperature", temperature, "a finite number above 0")
    return temperature


def check_views(view1: Tensor, view2: Tensor) -> None:
    """Refuse embeddings that are not two equal shapes [N, D].

    Raises:
        InputError: names the view and both shapes.
    """
    shape = tuple(view1.shape)
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 1:
        allowed = "a shape [N, D] with N >= 2 (a negative needs a second sample) and D >= 1"
        raise InputError("view1", shape, allowed)
    if tuple(view2.shape) != shape:
        raise InputError("view2", tuple(view2.shape), f"the shape of view1, {shape}")
