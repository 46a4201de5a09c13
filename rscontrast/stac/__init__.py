"""From a STAC source to items, and from items to temporal pairs. Imports no torch.

What makes pairs is imported when it is first used, since a search does without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rscontrast.stac.index import read_items as read_items
from rscontrast.stac.index import write_items as write_items
from rscontrast.stac.search import search as search

if TYPE_CHECKING:
    from rscontrast.stac.pairing.file import read_pairs as read_pairs
    from rscontrast.stac.pairing.file import write_pairs as write_pairs
    from rscontrast.stac.pairing.split import split_by_place as split_by_place
    from rscontrast.stac.pairing.summary import summarise as summarise
    from rscontrast.stac.pairs import pair_items as pair_items

_LATER = {
    "pair_items": "rscontrast.stac.pairs",
    "read_pairs": "rscontrast.stac.pairing.file",
    "split_by_place": "rscontrast.stac.pairing.split",
    "summarise": "rscontrast.stac.pairing.summary",
    "write_pairs": "rscontrast.stac.pairing.file",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
