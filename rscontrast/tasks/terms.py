"""What may be added to a dense method by its configuration: depth, de-coupling, de-positioning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rscontrast.augment import RegionMix, RegionPlacing
from rscontrast.errors import InputError, choose, positive
from rscontrast.losses import DepthFilter, LossOutput, decoupling, depositioning
from rscontrast.losses.decoupling import DenseLoss


@dataclass(frozen=True, eq=False)
class TermInput:
    """What a term is given of a step: both views, the coarsest level, both branches."""

    images: Tensor
    """[N, C, H, W], all first views, then all second ones; neighbours are different patches."""
    keys: Tensor
    """[N, D, h, w] of the momentum branch, of the same views."""
    valid: Tensor | None
    """[N, h, w] usable cells; None: all."""
    weight: Tensor | None
    """[N]; None: all 1."""
    query: Callable[[Tensor, Tensor | None], Tensor]
    """Images and their usable cells -> cells of the online branch."""
    key: Callable[[Tensor], Tensor]
    """Images -> cells of the momentum branch."""
    dense: DenseLoss
    """The method's loss of pairs of cells."""


class DecouplingTerm(nn.Module):
    """Mixed views keep the features of what they kept, see :func:`rscontrast.losses.decoupling`.

    Mixed views go nowhere else: no image-level loss sees them.
    """

    def __init__(
        self,
        weight: float = 0.3,
        share: tuple[float, float] = (0.2, 0.6),
        p: float = 0.5,
        complement: float = 0.5,
    ) -> None:
        """Check and keep the settings; ``weight`` of the term, others of :class:`RegionMix`."""
        super().__init__()
        self.weight = positive("weight", weight)
        self.mix = RegionMix(share, p, complement)

    def forward(self, given: TermInput) -> LossOutput:
        """Loss of the term, not weighted."""
        mixed = self.mix(given.images, (given.keys.shape[-2], given.keys.shape[-1]))
        valid = given.valid
        seen = None if valid is None else torch.where(mixed.kept, valid, valid.roll(1, dims=0))
        return decoupling(
            given.query(mixed.images, seen),
            given.keys,
            mixed.kept,
            weight=given.weight,
            query_valid=valid,
            key_valid=valid,
            dense=given.dense,
        )


class DepositioningTerm(nn.Module):
    """One region at two places is one feature, see :func:`rscontrast.losses.depositioning`."""

    def __init__(
        self, weight: float = 0.1, share: float = 0.4, fill: str = "content", margin: int = 1
    ) -> None:
        """Check and keep the settings; ``weight`` is ours, others of :class:`RegionPlacing`."""
        super().__init__()
        self.weight = positive("weight", weight)
        self.placing = RegionPlacing(share, fill, margin)  # type: ignore[arg-type]  # it checks

    def forward(self, given: TermInput) -> LossOutput:
        """Loss of the term, not weighted."""
        grid = (given.keys.shape[-2], given.keys.shape[-1])
        places = self.placing.draw(len(given.images), grid, device=given.images.device)
        first, second = self.placing.canvases(given.images, places)
        valid, seen = None, None
        if given.valid is not None:
            cells = given.valid.unsqueeze(1)
            valid = places.of_view(cells).squeeze(1)
            seen = self.placing.canvases(cells, places)[0].squeeze(1)
        return depositioning(
            places.of_canvas(given.query(first, seen), 0),
            places.of_canvas(given.key(second), 1),
            weight=given.weight,
            query_valid=valid,
            key_valid=valid,
            dense=given.dense,
        )


TERMS: dict[str, Callable[..., nn.Module]] = {
    "depth": DepthFilter,
    "decoupling": DecouplingTerm,
    "depositioning": DepositioningTerm,
}
"""Name -> module; "depth" filters the positives, the others add a loss."""


def build_terms(chosen: Mapping[str, Mapping[str, Any] | None] | None) -> nn.ModuleDict:
    """Build terms: ``{"depth": {"mode": "soft"}, "decoupling": None}``.

    Raises:
        InputError: an unknown name, or a setting that the term does not have or take.
    """
    if not isinstance(chosen, Mapping | None):
        raise InputError("terms", chosen, "settings, or null, of each by its name")
    made = nn.ModuleDict()
    for name, settings in (chosen or {}).items():
        make = TERMS[choose("terms", name, TERMS)]
        try:
            made[name] = make(**(settings or {}))
        except TypeError as error:
            raise InputError(f"terms.{name}", settings, f"its settings ({error})") from error
    return made
