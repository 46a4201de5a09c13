"""The command ``rscontrast map``: run, look before, look after."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd

from rscontrast.errors import InputError
from rscontrast.mapping.ledger import Ledger
from rscontrast.mapping.planned import Plan
from rscontrast.mapping.status import Status
from rscontrast.mapping.status import status as read_status
from rscontrast.stac.pairing.file import SomePairs
from rscontrast.types import PathOrStr


@dataclass(frozen=True)
class Mapped:
    """What a run left."""

    catalog: Path
    """Of the maps."""
    status: Status
    """Where the run stands."""

    @property
    def exit_code(self) -> int:
        """See :class:`rscontrast.mapping.status.Status`."""
        return self.status.exit_code

    def __str__(self) -> str:
        """The status, then where the catalog is."""
        return f"{self.status}\n{self.catalog}"


def map_catalog(
    items: gpd.GeoDataFrame | None = None,
    pairs: SomePairs | None = None,
    checkpoint: PathOrStr | None = None,
    out: PathOrStr | None = None,
    *,
    catalog: str | None = None,
    status: PathOrStr | None = None,
    dry_run: bool = False,
    **arguments: Any,
) -> Mapped | Status | str:
    """Map a catalog, or say what that would be, or how far it is.

    Args:
        items: of a search.
        pairs: of the items; without them the event, or pre and post, tell what is mapped.
        checkpoint: what the maps are made by.
        out: folder of the results; a second run does what the first left.
        catalog: where to search for items, instead of a table of them.
        status: folder of a run: say what is done, failed and pending, and end.
        dry_run: print jobs, km2, bytes to read and time; nothing is opened or written.
        arguments: of :func:`rscontrast.mapping.running`.

    Returns:
        what is printed; its ``exit_code``, where it has one, is the command's: 0 all done, 3 some
        jobs failed, 4 some are pending.

    Raises:
        InputError: an argument is missing or out of range.
        RSContrastError: see :func:`rscontrast.mapping.running`.
    """
    if status is not None:
        return read_status(status)
    from rscontrast.mapping.running import plan_map, run

    if (items is None) == (catalog is None):
        raise InputError("items", "both or neither of items and catalog", "one of the two")
    source: Any = catalog if items is None else items
    if checkpoint is None:
        raise InputError("checkpoint", None, "the file of a segmenter or an encoder")
    if dry_run:
        known = set(inspect.signature(plan_map).parameters)
        place = {name: value for name, value in arguments.items() if name in known}
        made = plan_map(source, checkpoint, pairs=pairs, **place)
        return made.report(arguments.get("workers") or 1, _speed(out, made))
    if out is None:
        raise InputError("out", None, "a folder")
    written = run(source, checkpoint, out, pairs=pairs, **arguments)
    return Mapped(written, read_status(out))


def _speed(out: PathOrStr | None, made: Plan) -> float | None:
    """Pixels that a worker mapped in a second, as the records of an earlier run tell."""
    if out is None:
        return None
    ledger = Ledger(out)
    results = [r for job in made.jobs if (r := ledger.result(job.id)) is not None]
    seconds = sum(result.seconds for result in results)
    pixels = sum(made.estimates[result.id].pixels for result in results)
    return pixels / seconds if seconds > 0 and pixels else None
