"""Samplers for what TorchGeo's cannot express: two dates of a place, and scattered places."""

from rscontrast.samplers.blocks import BlockAlignedPairSampler as BlockAlignedPairSampler
from rscontrast.samplers.epochs import EpochSampler as EpochSampler
from rscontrast.samplers.pairs import TemporalPairSampler as TemporalPairSampler
from rscontrast.samplers.places import GriddedPlaceSampler as GriddedPlaceSampler
from rscontrast.samplers.places import RandomPlaceSampler as RandomPlaceSampler
