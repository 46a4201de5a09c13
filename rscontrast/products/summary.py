"""What there is to say of an area in a line."""

from collections.abc import Iterable, Sequence
from typing import Any

from rscontrast.products.done import Done
from rscontrast.report.palette import Palette


def km2(area: Iterable[Done], palette: Palette) -> dict[str, float]:
    """Ground of each class."""
    found = dict.fromkeys((name for name, _ in palette), 0.0)
    for one in area:
        total = sum(one.result.class_pixels)
        for (name, _), count in zip(palette, one.result.class_pixels, strict=False):
            found[name] += one.result.km2 * count / max(1, total)
    return found


def days(dates: Iterable[Any]) -> str:
    """When it was: a day, or the first and the last."""
    found = sorted({item["datetime"].strftime("%Y-%m-%d") for item in dates})
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def where(area: Sequence[Done]) -> str:
    """The middle of an area."""
    boxes = [one.ground.bounds for one in area]
    west, south = min(b[0] for b in boxes), min(b[1] for b in boxes)
    east, north = max(b[2] for b in boxes), max(b[3] for b in boxes)
    x, y = (west + east) / 2, (south + north) / 2
    return f"{abs(y):.3f}° {'N' if y >= 0 else 'S'}, {abs(x):.3f}° {'E' if x >= 0 else 'W'}"


def attributed(jobs: Iterable[Done]) -> str:
    """Whose imagery it is: collections and platforms."""
    items = [item for one in jobs for item in (*one.job.pre, *one.job.post)]
    said = {str(item[key]) for item in items for key in ("collection", "platform") if item.get(key)}
    return f"Imagery: {', '.join(sorted(said))}. Made with rscontrast." if said else "rscontrast"
