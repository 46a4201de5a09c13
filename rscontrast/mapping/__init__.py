"""A segmenter over pairs of a catalog: class and probability COGs, a STAC catalog, scores."""

from rscontrast.mapping.evaluate import evaluate as evaluate
from rscontrast.mapping.run import map_pairs as map_pairs
