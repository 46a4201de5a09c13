"""Pixels in and out: items, bands and a grid give an array; an array gives a COG."""

from rscontrast.io.read import ItemSource as ItemSource
from rscontrast.io.read import read_classes as read_classes
from rscontrast.io.read import read_dates as read_dates
from rscontrast.io.read import read_mosaic as read_mosaic
from rscontrast.io.write import CogWriter as CogWriter
