"""From a STAC source to items, and from items to temporal pairs. Imports no torch."""

from rscontrast.stac.index import read_items as read_items
from rscontrast.stac.index import write_items as write_items
from rscontrast.stac.pairfile import read_pairs as read_pairs
from rscontrast.stac.pairfile import write_pairs as write_pairs
from rscontrast.stac.pairs import pair_items as pair_items
from rscontrast.stac.search import search as search
from rscontrast.stac.split import split_by_place as split_by_place
