"""PixPro: cells of two views that show one place are alike (arXiv 2011.10043)."""

import torch
from torch import Tensor, nn

from rscontrast.losses.dense import pair_diagnostics, pair_mean, prepare, sample_mean
from rscontrast.losses.output import LossOutput


def pixpro(
    query: Tensor,
    key: Tensor,
    positives: Tensor,
    *,
    weight: Tensor | None = None,
    query_valid: Tensor | None = None,
    key_valid: Tensor | None = None,
) -> LossOutput:
    r"""Pull the query's cells to those of the key that show the same place; one direction.

    .. math:: L = -2\,\frac{\sum_b w_b \ell_b}{\sum_b w_b}, \qquad
              \ell_b = \frac{\sum_{ij} A_{ij} \cos(y_i, k_j)}{\sum_{ij} A_{ij} + 10^{-6}}

    Source: Xie et al. 2021, with the factor 2 and the 1e-6 of the released code, which has
    w = 1. The whole loss is that of view 1 to view 2 plus that of view 2 to view 1.

    Args:
        query: [N, D, h, w] y: propagated projections of one view; normalised here.
        key: [N, D, h', w'] k: projections of the momentum branch; normalised here, no gradient.
        positives: [N, h * w, h' * w'] A, boolean or 0 to 1, see
            :func:`rscontrast.losses.cell_positives`. A sample without any counts as 0.
        weight: [N] w, 0 or more; 0 removes a sample, whatever it holds. None: all 1.
        query_valid: [N, h, w] bool; a cell that is not is removed, whatever it holds. None: all.
        key_valid: [N, h', w'] bool.

    Returns:
        The loss, -2 to 2, at least float32 also under autocast, and ``positive_similarity``,
        ``positives_per_cell`` and ``overlap_share``, see
        :func:`rscontrast.losses.dense.pair_diagnostics`.

    Raises:
        InputError: a shape that does not fit.
    """
    with torch.autocast(query.device.type, enabled=False):
        cells, others, pairs = prepare(query, key, positives, weight, query_valid, key_valid)
        cosine = cells.transpose(1, 2) @ others
        loss = -2 * sample_mean(pair_mean(cosine, pairs), weight)
    return LossOutput(loss, pair_diagnostics(cosine.detach(), pairs, weight))


class PixProLoss(nn.Module):
    """:func:`pixpro` as a module; it has no settings."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        positives: Tensor,
        *,
        weight: Tensor | None = None,
        query_valid: Tensor | None = None,
        key_valid: Tensor | None = None,
    ) -> LossOutput:
        """See :func:`pixpro`."""
        return pixpro(
            query, key, positives, weight=weight, query_valid=query_valid, key_valid=key_valid
        )
