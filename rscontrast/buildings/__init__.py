"""Buildings of a map: graded in footprints that are given, or drawn from the classes."""

from rscontrast.buildings.footprints import read_footprints as read_footprints
from rscontrast.buildings.footprints import write_buildings as write_buildings
from rscontrast.buildings.grade import grade as grade
from rscontrast.buildings.grade import grade_raster as grade_raster
from rscontrast.buildings.polygons import vectorize as vectorize
from rscontrast.buildings.polygons import vectorize_raster as vectorize_raster
