"""TorchGeo datasets: the items of a catalog, and any GeoDataset seen at two dates."""

from rscontrast.datasets.cache import CachedPairs as CachedPairs
from rscontrast.datasets.depth import STACDepth as STACDepth
from rscontrast.datasets.labels import STACLabels as STACLabels
from rscontrast.datasets.pairs import TemporalPairDataset as TemporalPairDataset
from rscontrast.datasets.stac import STACDataset as STACDataset
from rscontrast.datasets.tiles import Crop as Crop
from rscontrast.datasets.tiles import PairTiles as PairTiles
from rscontrast.datasets.vectors import VectorLabels as VectorLabels
