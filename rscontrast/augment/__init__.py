"""Batches into views, on the device of the batch."""

from rscontrast.augment.adapter import KorniaOperation as KorniaOperation
from rscontrast.augment.adapter import kornia_operations as kornia_operations
from rscontrast.augment.atmosphere import Haze as Haze
from rscontrast.augment.atmosphere import Shadow as Shadow
from rscontrast.augment.atmosphere import Sun as Sun
from rscontrast.augment.atmosphere import ThinCloud as ThinCloud
from rscontrast.augment.blur import Blur as Blur
from rscontrast.augment.blur import Coarsen as Coarsen
from rscontrast.augment.cutout import RegionCutout as RegionCutout
from rscontrast.augment.dihedral import Dihedral as Dihedral
from rscontrast.augment.jitter import Grayscale as Grayscale
from rscontrast.augment.jitter import Grey as Grey
from rscontrast.augment.jitter import Jitter as Jitter
from rscontrast.augment.jitter import Solarize as Solarize
from rscontrast.augment.noise import Noise as Noise
from rscontrast.augment.noise import Speckle as Speckle
from rscontrast.augment.normalise import Normalise as Normalise
from rscontrast.augment.operations import Operation as Operation
from rscontrast.augment.presets import PRESETS as PRESETS
from rscontrast.augment.presets import Recipe as Recipe
from rscontrast.augment.presets import recipe as recipe
from rscontrast.augment.replay import ViewParams as ViewParams
from rscontrast.augment.spectral import BandDropout as BandDropout
from rscontrast.augment.spectral import Gain as Gain
from rscontrast.augment.spectral import SpectralJitter as SpectralJitter
from rscontrast.augment.views import PairViews as PairViews
