"""Lightning modules: self-supervised pretraining, and segmentation of two dates."""

from rscontrast.tasks.byol import BYOL as BYOL
from rscontrast.tasks.damage import DamageSegmentation as DamageSegmentation
from rscontrast.tasks.densecl import DenseCL as DenseCL
from rscontrast.tasks.false import FALSE as FALSE
from rscontrast.tasks.moco import MoCo as MoCo
from rscontrast.tasks.pixpro import PixPro as PixPro
from rscontrast.tasks.probe import OnlineProbe as OnlineProbe
from rscontrast.tasks.simclr import SimCLR as SimCLR
