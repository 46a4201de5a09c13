"""Losses: a pure function each, and a module that only holds its arguments."""

from rscontrast.losses.byol import BYOLLoss as BYOLLoss
from rscontrast.losses.byol import byol as byol
from rscontrast.losses.cells import cell_positives as cell_positives
from rscontrast.losses.cells import matched_positives as matched_positives
from rscontrast.losses.cells import view_positives as view_positives
from rscontrast.losses.combine import combine as combine
from rscontrast.losses.debiased import DebiasedLoss as DebiasedLoss
from rscontrast.losses.debiased import QueueDebiasedLoss as QueueDebiasedLoss
from rscontrast.losses.debiased import debiased_contrastive as debiased_contrastive
from rscontrast.losses.debiased import queue_debiased_contrastive as queue_debiased_contrastive
from rscontrast.losses.decoupling import Decoupling as Decoupling
from rscontrast.losses.decoupling import decoupling as decoupling
from rscontrast.losses.dense import mask_positives as mask_positives
from rscontrast.losses.dense_info_nce import DenseInfoNCE as DenseInfoNCE
from rscontrast.losses.dense_info_nce import dense_info_nce as dense_info_nce
from rscontrast.losses.depositioning import Depositioning as Depositioning
from rscontrast.losses.depositioning import depositioning as depositioning
from rscontrast.losses.depth import DepthFilter as DepthFilter
from rscontrast.losses.depth import depth_positives as depth_positives
from rscontrast.losses.depth import normalise_depth as normalise_depth
from rscontrast.losses.depth import pool_depth as pool_depth
from rscontrast.losses.false import FALSELoss as FALSELoss
from rscontrast.losses.false import QueueFALSELoss as QueueFALSELoss
from rscontrast.losses.false import false_contrastive as false_contrastive
from rscontrast.losses.false import queue_false_contrastive as queue_false_contrastive
from rscontrast.losses.false_negative_cancellation import (
    FalseNegativeAttraction as FalseNegativeAttraction,
)
from rscontrast.losses.false_negative_cancellation import (
    FalseNegativeElimination as FalseNegativeElimination,
)
from rscontrast.losses.false_negative_cancellation import (
    QueueFalseNegativeAttraction as QueueFalseNegativeAttraction,
)
from rscontrast.losses.false_negative_cancellation import (
    QueueFalseNegativeElimination as QueueFalseNegativeElimination,
)
from rscontrast.losses.false_negative_cancellation import (
    false_negative_attraction as false_negative_attraction,
)
from rscontrast.losses.false_negative_cancellation import (
    false_negative_elimination as false_negative_elimination,
)
from rscontrast.losses.false_negative_cancellation import (
    queue_false_negative_attraction as queue_false_negative_attraction,
)
from rscontrast.losses.false_negative_cancellation import (
    queue_false_negative_elimination as queue_false_negative_elimination,
)
from rscontrast.losses.family import BATCH as BATCH
from rscontrast.losses.family import QUEUE as QUEUE
from rscontrast.losses.gather import gather_embeddings as gather_embeddings
from rscontrast.losses.glofnd import GloFNDLoss as GloFNDLoss
from rscontrast.losses.glofnd import QueueGloFNDLoss as QueueGloFNDLoss
from rscontrast.losses.glofnd import glofnd as glofnd
from rscontrast.losses.glofnd import queue_glofnd as queue_glofnd
from rscontrast.losses.info_nce import InfoNCE as InfoNCE
from rscontrast.losses.info_nce import QueueInfoNCE as QueueInfoNCE
from rscontrast.losses.info_nce import info_nce as info_nce
from rscontrast.losses.info_nce import queue_info_nce as queue_info_nce
from rscontrast.losses.output import LossOutput as LossOutput
from rscontrast.losses.pixpro import PixProLoss as PixProLoss
from rscontrast.losses.pixpro import pixpro as pixpro
from rscontrast.losses.ranks import rank_share as rank_share
from rscontrast.losses.segmentation import SEGMENTATION as SEGMENTATION
from rscontrast.losses.segmentation import SegmentationLoss as SegmentationLoss
