"""Colours of classes, chosen so that colour-blind readers can tell them apart."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from rscontrast.errors import InputError
from rscontrast.types import IGNORE

type Palette = Sequence[tuple[str, str]]
"""(name, hex colour) of each class, in label order."""

# Lightness differs between neighbours, so no two classes rely on red against green.
DAMAGE_PALETTE: Palette = (
    ("background", "#20242e"),
    ("no-damage", "#2a9fb0"),
    ("minor-damage", "#ffdb58"),
    ("major-damage", "#ee7a10"),
    ("destroyed", "#c4122f"),
)
CHANGE_PALETTE: Palette = (("no change", "#20242e"), ("change", "#ee7a10"))

NODATA_COLOUR = "#d9d9d9"

SPARE_COLOURS = (
    "#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00", "#999999",
)  # fmt: skip
"""Of classes that no palette knows, by turns (Okabe and Ito)."""


def class_palette(names: Sequence[str]) -> Palette:
    """Colours of classes by their names: those of damage and change where they are such."""
    known = {_plain(name): colour for name, colour in (*DAMAGE_PALETTE, *CHANGE_PALETTE)}
    short = {name.removesuffix("-damage"): colour for name, colour in known.items()}
    found = [known.get(_plain(name)) or short.get(_plain(name)) for name in names]
    spare = [colour for colour in SPARE_COLOURS if colour not in found]
    return [
        (name, colour or spare[n % len(spare)])
        for n, (name, colour) in enumerate(zip(names, found, strict=True))
    ]


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")


def rgb(colour: str) -> tuple[int, ...]:
    """Red, green, blue, 0 to 255, of a hex colour."""
    return tuple(round(255 * channel) for channel in to_rgb(colour))


def colour_labels(
    labels: NDArray[np.uint8], palette: Palette, argument: str = "labels"
) -> NDArray[np.uint8]:
    """Paint classes [H, W] as an RGB image [H, W, 3]; 255 becomes light grey.

    Raises:
        InputError: names ``argument`` and a class that the palette does not have.
    """
    unknown = labels[(labels >= len(palette)) & (labels != IGNORE)]
    if unknown.size:
        raise InputError(argument, int(unknown[0]), f"0 to {len(palette) - 1}, or {IGNORE}")
    table = np.full((IGNORE + 1, 3), rgb(NODATA_COLOUR), np.uint8)
    table[: len(palette)] = [rgb(colour) for _, colour in palette]
    return table[labels]
