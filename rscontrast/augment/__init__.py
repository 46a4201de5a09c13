"""Batches into views, on the device of the batch, with kornia."""

from rscontrast.augment.normalise import Normalise as Normalise
from rscontrast.augment.spectral import SpectralJitter as SpectralJitter
from rscontrast.augment.views import Dihedral as Dihedral
from rscontrast.augment.views import PairViews as PairViews
