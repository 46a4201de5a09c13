"""Every error that the package raises on purpose, each naming its cause and the remedy.

    RSContrastError
    ├── InputError (ValueError)      an argument: what came, what is allowed
    │   └── BandError                a band that an item or a checkpoint does not have
    ├── EmptySearchError             a search or a pairing rule that leaves nothing
    ├── AssetError (OSError)         an asset that cannot be read: item, asset, window
    │   └── CatalogError             a page or a file of a catalog that cannot be read
    ├── GridError                    rasters that cannot be brought onto one grid
    ├── CheckpointError              a checkpoint that is not one, or of other bands
    ├── TrainingError                a loss that is not finite
    └── WriteError (OSError)         an output that could not be written whole

The command line prints any of them as one line and exits with status 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral


class RSContrastError(Exception):
    """Root of the tree: catch it to catch everything that the package raises on purpose."""


class InputError(RSContrastError, ValueError):
    """An argument has a value that is not allowed."""

    def __init__(self, argument: str, got: object, allowed: str) -> None:
        """Name the argument, what came and what is allowed."""
        self.argument, self.got, self.allowed = argument, got, allowed
        super().__init__(argument, got, allowed)

    def __str__(self) -> str:
        """One line, ready for a terminal."""
        return f"{self.argument}: got {self.got!r}; allowed: {self.allowed}"


class BandError(InputError):
    """A band is missing: from an item, or from the bands a checkpoint was made for."""


class EmptySearchError(RSContrastError, LookupError):
    """A search or a pairing rule left nothing to work on."""


class AssetError(RSContrastError, OSError):
    """An asset could not be opened or read to the end."""


class CatalogError(AssetError):
    """A page or a file of a catalog could not be read; a search without it would have a hole."""


class GridError(RSContrastError, ValueError):
    """A raster has no place on the grid that it is asked for."""


class CheckpointError(RSContrastError, ValueError):
    """A file is not a checkpoint of ours, or was made for other bands."""


class TrainingError(RSContrastError, ArithmeticError):
    """Training met a value that is not finite."""


class WriteError(RSContrastError, OSError):
    """An output could not be written whole; nothing stands under its final name."""


def choose[S: str](argument: str, got: S, allowed: Iterable[str]) -> S:
    """Return ``got`` if it is among ``allowed``.

    Raises:
        InputError: it is not; the nearest name is suggested.
    """
    names = sorted(allowed)
    if got in names:
        return got
    near = get_close_matches(got, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    shown = ", ".join(names) if len(names) <= 20 else ", ".join(names[:20]) + ", ..."
    raise InputError(argument, got, f"one of {shown}{hint}")


def whole(argument: str, got: int, *, least: int = 1, multiple: int = 1) -> int:
    """Return ``got`` if it is at least ``least`` and a multiple of ``multiple``.

    Raises:
        InputError: it is not.
    """
    if not _is_whole(got) or got < least or got % multiple:
        kind = "a whole number" if multiple == 1 else f"a multiple of {multiple}"
        raise InputError(argument, got, f"{kind}, {-(-least // multiple) * multiple} or more")
    return int(got)


def flag(argument: str, got: object) -> bool:
    """Return ``got`` if it is True or False.

    Raises:
        InputError: it is not; text and numbers are neither.
    """
    if not isinstance(got, bool):
        raise InputError(argument, got, "true or false")
    return got


def height_width(argument: str, got: object) -> tuple[int, int]:
    """Return (H, W), each 1 or more; one number stands for both.

    Raises:
        InputError: it is neither.
    """
    sides = got if isinstance(got, list | tuple) else (got, got)
    if len(sides) != 2 or not all(_is_whole(side) and side >= 1 for side in sides):
        raise InputError(argument, got, "whole numbers (H, W), 1 or more, or one for both")
    return int(sides[0]), int(sides[1])


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def positive(argument: str, got: float) -> float:
    """Return ``got`` if it is above zero.

    Raises:
        InputError: it is not (NaN included).
    """
    if not got > 0:
        raise InputError(argument, got, "a number above 0")
    return got
