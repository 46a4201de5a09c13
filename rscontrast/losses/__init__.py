"""Losses: a pure function each, and a module that only holds its arguments."""

from rscontrast.losses.false import FALSELoss, false_contrastive
from rscontrast.losses.gather import gather_embeddings
from rscontrast.losses.info_nce import InfoNCE, info_nce
from rscontrast.losses.output import LossOutput

__all__ = [
    "FALSELoss",
    "InfoNCE",
    "LossOutput",
    "false_contrastive",
    "gather_embeddings",
    "info_nce",
]
