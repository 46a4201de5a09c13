"""Temperature scaling: one number that makes probabilities as sure as they are right."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from rscontrast.errors import InputError, whole
from rscontrast.types import IGNORE

LIMIT = 1_000_000
"""Pixels that a temperature is fitted on."""
RANGE = (0.01, 100.0)
"""Where temperatures are sought: of predictions that are all right the best one is 0."""

type Probabilities = Callable[[Tensor], Tensor]
"""Logits [N, C, 1, 1] to class probabilities [N, K, 1, 1]."""


class PixelSample:
    """A fixed number of pixels, drawn evenly from batches that need not be held together.

    Each pixel draws a number and those with the smallest stay, so that every pixel of all batches
    is as likely to. The same batches in the same order give the same sample.
    """

    def __init__(self, limit: int = LIMIT, seed: int = 0) -> None:
        """Start empty.

        Args:
            limit: pixels to keep; fewer are all kept.
            seed: of the draws.

        Raises:
            InputError: ``limit`` is not 1 or more.
        """
        self.limit = whole("limit", limit)
        self._generator = torch.Generator().manual_seed(seed)
        self._keys = torch.empty(0, dtype=torch.float64)
        self.logits = torch.empty(0, 0)
        self.mask = torch.empty(0, dtype=torch.int64)

    def add(self, logits: Tensor, mask: Tensor, valid: Tensor | None = None) -> None:
        """Take what is drawn of a batch.

        Args:
            logits: [B, C, H, W] or [N, C].
            mask: true classes [B, H, W] or [N]; 255 is left out.
            valid: bool as ``mask``, or [B, D, H, W]; what is not is left out.

        Raises:
            InputError: shapes that do not fit each other.
        """
        if mask.shape != (logits.shape[0], *logits.shape[2:]):
            raise InputError("mask", tuple(mask.shape), f"one label a pixel of {logits.shape}")
        keep = mask != IGNORE
        if valid is not None:
            keep &= valid.all(dim=1) if valid.ndim > mask.ndim else valid
        pixels, labels = logits.detach().movedim(1, -1)[keep].cpu(), mask[keep].long().cpu()
        drawn = torch.rand(len(labels), generator=self._generator, dtype=torch.float64)
        if not self.logits.numel():
            self.logits = pixels[:0]
        keys = torch.cat([self._keys, drawn])
        kept = keys.argsort(stable=True)[: self.limit].sort().values
        self._keys = keys[kept]
        self.logits = torch.cat([self.logits, pixels])[kept]
        self.mask = torch.cat([self.mask, labels])[kept]


def nll(
    logits: Tensor,
    mask: Tensor,
    temperature: float | Tensor = 1.0,
    probabilities: Probabilities | None = None,
) -> Tensor:
    """Mean of -log p(true class) of pixels, with the logits divided by the temperature.

    Args:
        logits: [N, C].
        mask: true classes [N].
        temperature: above 0.
        probabilities: what a model makes of its logits; None: softmax.
    """
    scaled = logits / temperature
    if probabilities is None:
        return F.cross_entropy(scaled, mask)
    found = probabilities(scaled[:, :, None, None])[:, :, 0, 0]
    return F.nll_loss(found.clamp_min(torch.finfo(found.dtype).tiny).log(), mask)


def fit_temperature(
    logits: Tensor,
    mask: Tensor,
    *,
    valid: Tensor | None = None,
    probabilities: Probabilities | None = None,
    limit: int = LIMIT,
    seed: int = 0,
) -> float:
    """Find the temperature with the least negative log likelihood, by L-BFGS in float64.

    The classes stay as they are: dividing by a temperature changes no order. Batches that do not
    fit in memory go through :class:`PixelSample` first. Source: Guo et al., "On Calibration of
    Modern Neural Networks", 2017, arXiv 1706.04599, section 4.2, eq. 9.

    Args:
        logits: of validation, never of training: [B, C, H, W] or [N, C].
        mask: true classes [B, H, W] or [N]; 255 is left out.
        valid: bool as ``mask``, or [B, D, H, W]; what is not is left out.
        probabilities: what a model makes of its logits, if not their softmax.
        limit: pixels to fit on, drawn evenly.
        seed: of that draw.

    Returns:
        the temperature, 0.01 to 100; 1 where none is better on these pixels.

    Raises:
        InputError: shapes that do not fit, no labelled pixel, or logits that are not finite.
    """
    sample = PixelSample(limit, seed)
    sample.add(logits, mask, valid)
    if not len(sample.mask):
        raise InputError("mask", "no labelled pixel", f"1 or more that are valid and not {IGNORE}")
    if not sample.logits.isfinite().all():
        raise InputError("logits", "NaN or infinity", "finite numbers")
    # Validation may run in inference mode, whose tensors have no gradient.
    with torch.inference_mode(False), torch.enable_grad():
        pixels, labels = sample.logits.to(torch.float64, copy=True), sample.mask.clone()

        def loss_of(temperature: float | Tensor) -> Tensor:
            return nll(pixels, labels, temperature, probabilities)

        found = _minimum(loss_of)
        better = bool(loss_of(found) < loss_of(1.0))
    return found if better else 1.0


def _minimum(loss_of: Callable[[float | Tensor], Tensor]) -> float:
    """Temperature of the least loss, sought by its logarithm, so that it stays above 0."""
    log = torch.zeros((), dtype=torch.float64, requires_grad=True)
    ends = torch.tensor(RANGE, dtype=torch.float64).log().tolist()
    search = torch.optim.LBFGS(
        [log], max_iter=100, tolerance_grad=1e-10, tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        search.zero_grad()
        loss = loss_of(log.clamp(*ends).exp())
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
        return loss

    search.step(closure)  # type: ignore[no-untyped-call]  # torch does not type it
    return float(log.detach().clamp(*ends).exp())
