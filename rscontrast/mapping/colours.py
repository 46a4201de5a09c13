"""Colours of classes: the first is light grey, the others go from green to dark red.

None is transparent: a GeoTIFF's colour table has no alpha.
"""

import numpy as np

RAMP = ((26, 152, 80), (254, 224, 139), (244, 109, 67), (165, 0, 38))
"""Four grades, from no damage to destroyed."""


def class_colours(count: int) -> dict[int, tuple[int, int, int, int]]:
    """Red, green, blue, alpha of each class; of four grades those of :data:`RAMP`."""
    colours = {0: (238, 238, 238, 255)}
    grades = count - 1
    for grade in range(grades):
        at = len(RAMP) - 1 if grades == 1 else grade * (len(RAMP) - 1) / (grades - 1)
        red, green, blue = (
            round(float(np.interp(at, range(len(RAMP)), channel)))
            for channel in zip(*RAMP, strict=True)
        )
        colours[grade + 1] = (red, green, blue, 255)
    return colours
