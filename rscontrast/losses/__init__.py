"""Losses: a pure function each, and a module that only holds its arguments."""

from rscontrast.losses.byol import BYOLLoss as BYOLLoss
from rscontrast.losses.byol import byol as byol
from rscontrast.losses.false import FALSELoss as FALSELoss
from rscontrast.losses.false import false_contrastive as false_contrastive
from rscontrast.losses.gather import gather_embeddings as gather_embeddings
from rscontrast.losses.info_nce import InfoNCE as InfoNCE
from rscontrast.losses.info_nce import info_nce as info_nce
from rscontrast.losses.output import LossOutput as LossOutput
