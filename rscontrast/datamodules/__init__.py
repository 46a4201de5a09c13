"""Lightning datamodules: pairs to pretrain on, and labelled pairs to fine-tune on."""

from rscontrast.datamodules.damage import DamageDataModule as DamageDataModule
from rscontrast.datamodules.pairs import PairDataModule as PairDataModule
from rscontrast.datamodules.statistics import BandStatistics as BandStatistics
from rscontrast.datamodules.tiled import BRIGHTDataModule as BRIGHTDataModule
from rscontrast.datamodules.tiled import XBDDataModule as XBDDataModule
