"""De-positioning: a cell's feature does not tell where in the view the cell lies.

Source: the abstract of arXiv 2303.16947; the form is a reconstruction. The regions are placed by
:class:`rscontrast.augment.RegionPlacing`; this is the loss on their features.
"""

from torch import Tensor, nn

from rscontrast.losses.decoupling import DenseLoss
from rscontrast.losses.dense import identity_positives
from rscontrast.losses.output import LossOutput
from rscontrast.losses.pixpro import pixpro


def depositioning(
    query: Tensor,
    key: Tensor,
    *,
    weight: Tensor | None = None,
    query_valid: Tensor | None = None,
    key_valid: Tensor | None = None,
    dense: DenseLoss = pixpro,
) -> LossOutput:
    r"""Pull together the features of one region at two places of a canvas.

    With :func:`rscontrast.losses.pixpro`, over the cells of the region,
    :math:`\ell_b = \mathrm{mean}_i \cos(q_i, k_i)`.

    Args:
        query: [N, D, r, s] cells of the region at its first place, online branch.
        key: [N, D, r, s] the same cells at its second place, momentum branch; no gradient.
        weight: [N], 0 or more; 0 removes a sample. None: all 1.
        query_valid: [N, r, s] bool; None: all.
        key_valid: [N, r, s] bool; None: all.
        dense: the loss of pairs of cells.

    Returns:
        The loss and its diagnostics, of which ``positive_similarity`` says how far position is
        forgotten.

    Raises:
        InputError: a shape that does not fit.
    """
    same = identity_positives(query)
    return dense(query, key, same, weight=weight, query_valid=query_valid, key_valid=key_valid)


class Depositioning(nn.Module):
    """Holds the loss of pairs that :func:`depositioning` takes."""

    def __init__(self, dense: DenseLoss = pixpro) -> None:
        """Keep ``dense``."""
        super().__init__()
        self.dense = dense

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        *,
        weight: Tensor | None = None,
        query_valid: Tensor | None = None,
        key_valid: Tensor | None = None,
    ) -> LossOutput:
        """See :func:`depositioning`."""
        return depositioning(
            query, key, weight=weight, query_valid=query_valid, key_valid=key_valid,
            dense=self.dense,
        )  # fmt: skip
