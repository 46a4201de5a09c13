"""De-coupling: a cell's feature does not hang on what lies beside it.

Source: arXiv 2303.16947 and its follow-up, ICLR 2024, "Mind Your Augmentation". The patches are
mixed by :class:`rscontrast.augment.RegionMix`; this is the loss on what was kept.
"""

from collections.abc import Callable

from torch import Tensor, nn

from rscontrast.losses.cells import check_valid
from rscontrast.losses.dense import counted_mean, identity_positives
from rscontrast.losses.output import LossOutput
from rscontrast.losses.pixpro import pixpro

type DenseLoss = Callable[..., LossOutput]
"""``loss(query, key, positives, *, weight, query_valid, key_valid)``: any dense loss."""


def decoupling(
    query: Tensor,
    key: Tensor,
    kept: Tensor,
    *,
    weight: Tensor | None = None,
    query_valid: Tensor | None = None,
    key_valid: Tensor | None = None,
    dense: DenseLoss = pixpro,
) -> LossOutput:
    r"""Pull the cells that a mixed view kept to the same cells of the view as it was.

    With :func:`rscontrast.losses.pixpro`, for the set of kept cells M of each sample,

    .. math:: \ell_b = \frac{\sum_{i \in M} \cos(q_i, k_i)}{|M| + 10^{-6}}

    A dense InfoNCE may stand for it; the reconstruction is that the term takes the form of the
    loss it is added to.

    Args:
        query: [N, D, h, w] of the mixed view, online branch.
        key: [N, D, h, w] of the same view unmixed, momentum branch; no gradient.
        kept: [N, h, w] bool: cells that the mixed view has of its own patch.
        weight: [N], 0 or more; 0 removes a sample. None: all 1.
        query_valid: [N, h, w] bool; None: all.
        key_valid: [N, h, w] bool; None: all.
        dense: the loss of pairs of cells.

    Returns:
        The loss and its diagnostics, and ``kept_share`` of the cells of the samples that count.

    Raises:
        InputError: a shape that does not fit.
    """
    check_valid("kept", kept, (len(query), *query.shape[2:]))
    check_valid("query_valid", query_valid, tuple(kept.shape))
    output = dense(
        query,
        key,
        identity_positives(query),
        weight=weight,
        query_valid=kept if query_valid is None else kept & query_valid,
        key_valid=key_valid,
    )
    each = kept.to(output.loss.dtype).mean((1, 2))
    share = {"kept_share": counted_mean(each, weight)}
    return LossOutput(output.loss, output.diagnostics | share)


class Decoupling(nn.Module):
    """Holds the loss of pairs that :func:`decoupling` takes."""

    def __init__(self, dense: DenseLoss = pixpro) -> None:
        """Keep ``dense``."""
        super().__init__()
        self.dense = dense

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        kept: Tensor,
        *,
        weight: Tensor | None = None,
        query_valid: Tensor | None = None,
        key_valid: Tensor | None = None,
    ) -> LossOutput:
        """See :func:`decoupling`."""
        return decoupling(
            query, key, kept, weight=weight, query_valid=query_valid, key_valid=key_valid,
            dense=self.dense,
        )  # fmt: skip
