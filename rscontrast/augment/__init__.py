"""Batches into views, on the device of the batch."""

from rscontrast.augment.dihedral import Dihedral as Dihedral
from rscontrast.augment.normalise import Normalise as Normalise
from rscontrast.augment.replay import ViewParams as ViewParams
from rscontrast.augment.spectral import SpectralJitter as SpectralJitter
from rscontrast.augment.views import PairViews as PairViews
