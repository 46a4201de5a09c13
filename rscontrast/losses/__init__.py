"""Losses: a pure function each, and a module that only holds its arguments."""

from rscontrast.losses.byol import BYOLLoss as BYOLLoss
from rscontrast.losses.byol import byol as byol
from rscontrast.losses.debiased import DebiasedLoss as DebiasedLoss
from rscontrast.losses.debiased import QueueDebiasedLoss as QueueDebiasedLoss
from rscontrast.losses.debiased import debiased_contrastive as debiased_contrastive
from rscontrast.losses.debiased import queue_debiased_contrastive as queue_debiased_contrastive
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
