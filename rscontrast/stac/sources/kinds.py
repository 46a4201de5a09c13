"""Types of values in JSON: of numbers that are spelled as text, and of items that differ."""

from collections.abc import Iterable, Iterator
from typing import Any

from rscontrast.stac.items.cells import plain
from rscontrast.stac.items.frame import missing

NUMBERS = ("nan", "inf", "-inf")
"""How STAC spells these as a ``nodata``: JSON has no numbers for them."""
LONG = "a whole number of more than 64 bits"


def numbers(value: Any, key: str = "") -> Any:
    """Make numbers of texts that spell one under ``nodata``, at any depth."""
    if isinstance(value, dict):
        return {name: numbers(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [numbers(part, key) for part in value]
    return float(value) if key == "nodata" and value in NUMBERS else value


def clash(name: str, values: Iterable[Any], ids: Iterable[Any]) -> tuple[str, str] | None:
    """Find what no column holds: values of several types, or a number that is too long.

    Returns:
        path of the field, and an item of each type.
    """
    found: dict[str, dict[str, object]] = {}
    for value, item in zip(values, ids, strict=True):
        for path, kind in _kinds(name, numbers(plain(value), name)):
            found.setdefault(path, {}).setdefault(kind, item)
    for path, kinds in found.items():
        if len(kinds) > 1 or next(iter(kinds)).endswith(LONG):
            return path, ", ".join(f"{kind} in item {item}" for kind, item in kinds.items())
    return None


def _kinds(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Fields with their types. What a list holds is told with its level: ``a list of text``."""
    if isinstance(value, dict):
        yield path, "an object"
        for key, part in value.items():
            yield from _kinds(f"{path}.{key}", part)
    elif isinstance(value, list):
        for inner, kind in (found for part in value for found in _kinds(path, part)):
            yield inner, f"a list of {kind}" if inner == path else kind
    elif not missing(value):
        yield path, _kind(value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return LONG
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else type(value).__name__
