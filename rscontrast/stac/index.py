"""Items as a frame, on disk, and as native grids: what other layers take from here."""

from rscontrast.stac.frame import instants as instants
from rscontrast.stac.grids import item_crs as item_crs
from rscontrast.stac.grids import native_geobox as native_geobox
from rscontrast.stac.items import item_dicts as item_dicts
from rscontrast.stac.items import items_frame as items_frame
from rscontrast.stac.parquet import read_items as read_items
from rscontrast.stac.write import write_items as write_items
