"""InfoNCE of cells: positives show one place, negatives are elsewhere or of other patches."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from rscontrast.errors import InputError
from rscontrast.losses.contrast import check_temperature
from rscontrast.losses.dense import pair_diagnostics, pair_mean, prepare, sample_mean
from rscontrast.losses.output import LossOutput


def dense_info_nce(
    query: Tensor,
    key: Tensor,
    positives: Tensor,
    queue: Tensor | None = None,
    *,
    temperature: float = 0.2,
    weight: Tensor | None = None,
    query_valid: Tensor | None = None,
    key_valid: Tensor | None = None,
    near: Tensor | None = None,
) -> LossOutput:
    r"""Contrast each positive pair of cells with the query cell's negatives; one direction.

    .. math:: L = \frac{\sum_b w_b \ell_b}{\sum_b w_b}, \quad
              \ell_b = \frac{\sum_{ij} A_{ij} \ell_{ij}}{\sum_{ij} A_{ij} + 10^{-6}}, \quad
              \ell_{ij} = -\log \frac{e^{\cos(q_i, k_j)/t}}
              {e^{\cos(q_i, k_j)/t} + \sum_n e^{\cos(q_i, n)/t}}

    Source: Wang et al. 2021, "Dense Contrastive Learning", arXiv 2011.09157: with one positive a
    row and a queue it is their loss of cells. Several positives, weighted, and the mean over pairs
    are a reconstruction, in the form of PixPro; the negatives without a queue are those of
    PixContrast (arXiv 2011.10043).

    Args:
        query: [N, D, h, w] projections of one view; normalised here.
        key: [N, D, h', w'] projections of the momentum branch; normalised here, no gradient.
        positives: [N, h * w, h' * w'] A, boolean or 0 to 1. A sample without any counts as 0.
        queue: [K, D] n: stored keys of other patches; normalised here, no gradient. None: the
            negatives of a cell are the cells of its own key that are not ``near``.
        temperature: t, a finite number above 0.
        weight: [N] w, 0 or more; 0 removes a sample, whatever it holds. None: all 1.
        query_valid: [N, h, w] bool; a cell that is not is removed, whatever it holds. None: all.
        key_valid: [N, h', w'] bool; such a cell is no negative either.
        near: [N, h * w, h' * w'] boolean or 0 to 1, read without a queue only: pairs that are no
            negatives beside those with A > 0: the positives by place, of which depth then took
            some away. None: no others.

    Returns:
        The loss, 0 or more, at least float32 also under autocast, and the diagnostics of
        :func:`rscontrast.losses.pixpro`.

    Raises:
        InputError: a bad temperature, or a shape that does not fit.
    """
    check_temperature(temperature)
    _check_queue(queue, query)
    if near is not None and near.shape != positives.shape:
        raise InputError("near", tuple(near.shape), f"that of positives, {tuple(positives.shape)}")
    with torch.autocast(query.device.type, enabled=False):
        cells, others, pairs = prepare(query, key, positives, weight, query_valid, key_valid)
        logits = (cells / temperature).transpose(1, 2) @ others
        if queue is None:
            left_out = pairs > 0 if near is None else (pairs > 0) | (near > 0)
            negatives = _own_negatives(logits, left_out, key_valid)
        else:
            negatives = _queue_negatives(cells / temperature, queue)
        # -log(a / (a + b)) = softplus(log b - log a)
        loss = sample_mean(pair_mean(softplus(negatives - logits), pairs), weight)
    return LossOutput(loss, pair_diagnostics(logits.detach() * temperature, pairs, weight))


class DenseInfoNCE(nn.Module):
    """Holds the arguments of :func:`dense_info_nce`."""

    def __init__(self, temperature: float = 0.2) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`dense_info_nce`.
        """
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        positives: Tensor,
        queue: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        query_valid: Tensor | None = None,
        key_valid: Tensor | None = None,
        near: Tensor | None = None,
    ) -> LossOutput:
        """See :func:`dense_info_nce`."""
        return dense_info_nce(
            query, key, positives, queue, temperature=self.temperature,
            weight=weight, query_valid=query_valid, key_valid=key_valid, near=near,
        )  # fmt: skip


def _own_negatives(logits: Tensor, left_out: Tensor, key_valid: Tensor | None) -> Tensor:
    """Log of the sum over the key's other cells: [N, I, 1]."""
    if key_valid is not None:
        left_out = left_out | ~key_valid.flatten(1).unsqueeze(1)
    # Not -inf: a cell that has no negative would get a gradient of NaN.
    least = torch.finfo(logits.dtype).min / 4
    return logits.masked_fill(left_out, least).logsumexp(2, keepdim=True)


def _queue_negatives(cells: Tensor, queue: Tensor) -> Tensor:
    """Log of the sum over the queue, for cells [N, D, I]: [N, I, 1]."""
    stored = normalize(queue.detach().to(cells.dtype), dim=1)
    return (cells.transpose(1, 2) @ stored.T).logsumexp(2, keepdim=True)


def _check_queue(queue: Tensor | None, query: Tensor) -> None:
    dim = tuple(query.shape)[1:2]
    if queue is not None and (queue.ndim != 2 or len(queue) == 0 or queue.shape[1:] != dim):
        raise InputError("queue", tuple(queue.shape), f"a shape [K, D] with K >= 1 and D = {dim}")
