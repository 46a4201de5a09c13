"""All that is made of a run's results, in one call that may be cut off and called again."""

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import geopandas as gpd

from rscontrast.mapping.job import Result, Settings
from rscontrast.mapping.planned import Plan
from rscontrast.products.catalog import ITEMS, class_names, write_catalog
from rscontrast.products.done import done_jobs
from rscontrast.products.maker import MOSAIC, PREVIEWS, Maker
from rscontrast.products.summary import attributed
from rscontrast.report.palette import class_palette


def finish(
    folder: Path,
    plan: Plan,
    settings: Settings,
    results: Sequence[Result],
    *,
    crs: str | None = None,
    footprints: gpd.GeoDataFrame | None = None,
    title: str = "What changed",
    attribution: str | None = None,
) -> Path:
    """Write mosaics, polygons, buildings, styles, previews and the STAC catalog of a run.

    Each file appears whole or not at all; the catalog is the last. A second call with the same
    results changes no byte; what is there already is not made again.

    Args:
        folder: of the run; job ``ID`` wrote ``ID/classes.tif`` and so on.
        plan: its jobs.
        settings: how they were mapped.
        results: of the jobs that are done.
        crs: of the mosaic; None: the zone's, of several EPSG:3857.
        footprints: buildings to grade; None: those that the map draws.
        title: of the page.
        attribution: whose imagery it is; None: the collections and platforms of the items.

    Returns:
        path of the catalog.

    Raises:
        AssetError: a map cannot be read.
        GridError: tiles do not lie on one lattice.
        WriteError: the disk does not take something.
    """
    folder = Path(folder)
    jobs = done_jobs(plan, results)
    names = class_names(folder, jobs)
    made = Maker(folder, jobs, settings, class_palette(names), crs, footprints)
    _sweep(folder, (MOSAIC, PREVIEWS, ITEMS))
    made.mosaics()
    made.polygons()
    made.embeddings()
    made.previews(title, attribution or attributed(jobs))
    made.written |= write_catalog(folder, jobs, settings, made.quicklooks, made.assets)
    for path in _files(folder, (MOSAIC, PREVIEWS, ITEMS)):
        if path not in made.written:
            path.unlink(missing_ok=True)
    made.stamps.save(made.written)
    return folder / "catalog.json"


def _files(folder: Path, names: Iterable[str]) -> list[Path]:
    return [path for name in names for path in (folder / name).glob("*") if path.is_file()]


def _sweep(folder: Path, names: Iterable[str]) -> None:
    """Take away what a call that was killed left under temporary names."""
    for place in (folder, *(folder / name for name in names)):
        for path in place.glob(".*.tmp*"):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
