"""What is made of a run's maps: catalog, mosaics, polygons, buildings, styles and previews."""

from rscontrast.products.finish import finish as finish
from rscontrast.products.similar import similar as similar
