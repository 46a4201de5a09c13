"""The jobs that are done, as what is made of them sees them: by zone, and by area."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import GridError
from rscontrast.io.grid import apply_affine, crs_wkt, same_crs
from rscontrast.mapping.job import Job, Result
from rscontrast.mapping.planned import Plan

NEAR = 0.01
"""Degrees within which tiles are of one area."""


@dataclass(frozen=True)
class Done:
    """A job with what came of it."""

    job: Job
    """What was to be mapped."""
    result: Result
    """What was written."""
    ground: BaseGeometry
    """What was mapped, in degrees."""

    def file(self, name: str) -> str | None:
        """Name of a file of the job, relative to the folder of the run; None: it has none."""
        relative = f"{self.job.id}/{name}"
        return relative if relative in self.result.files else None


@dataclass(frozen=True)
class Zone:
    """Tiles of one lattice."""

    name: str
    """Begins the ids of its jobs: the EPSG code of its CRS."""
    geobox: GeoBox
    """Smallest grid that holds all of them."""
    parts: tuple[tuple[Done, int, int], ...]
    """Each tile with the row and the column where it begins."""


def done_jobs(plan: Plan, results: Sequence[Result]) -> list[Done]:
    """Join jobs and results, in the order of the plan."""
    found = {result.id: result for result in results}
    jobs = (job for job in plan.jobs if job.id in found)
    return [Done(job, found[job.id], plan.grounds[job.id]) for job in jobs]


def zones(jobs: Iterable[Done]) -> list[Zone]:
    """Put tiles together by the lattice that they lie on.

    Raises:
        GridError: tiles of one name that lie on two lattices.
    """
    groups: dict[str, list[Done]] = {}
    for one in jobs:
        groups.setdefault(one.job.id.rsplit("_", 2)[0], []).append(one)
    return [_zone(name, group) for name, group in sorted(groups.items())]


def _zone(name: str, group: list[Done]) -> Zone:
    first = group[0].job.geobox
    corners = [_corner(first, one) for one in group]
    rows, cols = (np.array(numbers) for numbers in zip(*corners, strict=True))
    sizes = np.array([tuple(one.job.geobox.shape) for one in group])
    top, left = int(rows.min()), int(cols.min())
    shape = (int((rows + sizes[:, 0]).max()) - top, int((cols + sizes[:, 1]).max()) - left)
    box = GeoBox(shape, first.transform @ Affine.translation(left, top), first.crs)
    parts = ((one, row - top, col - left) for one, (row, col) in zip(group, corners, strict=True))
    return Zone(name, box, tuple(parts))


def _corner(first: GeoBox, one: Done) -> tuple[int, int]:
    """Row and column of a tile, from the corner of another one's."""
    box = one.job.geobox
    x, y = box.transform.c, box.transform.f
    col, row = apply_affine(~first.transform, np.array([x]), np.array([y]))
    place = np.array([row[0], col[0]])
    linear = np.array(box.transform)[[0, 1, 3, 4]], np.array(first.transform)[[0, 1, 3, 4]]
    same = same_crs(crs_wkt(box), crs_wkt(first)) and np.allclose(*linear, rtol=1e-9, atol=0)
    if not same or np.abs(place - np.rint(place)).max() > 1e-3:
        raise GridError(f"job {one.job.id} lies on another lattice than its zone; map it anew")
    return int(np.rint(place[0])), int(np.rint(place[1]))


def touching(jobs: Sequence[Done]) -> list[list[Done]]:
    """Put together what lies side by side on the ground, in the order of the jobs."""
    shapes = np.array([one.ground for one in jobs], dtype=object)
    tree = shapely.STRtree(shapes)
    pairs = tree.query(shapes, predicate="dwithin", distance=NEAR)
    graph = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), (len(jobs), len(jobs)))
    groups: dict[int, list[Done]] = {}
    for one, number in zip(jobs, connected_components(graph)[1].tolist(), strict=True):
        groups.setdefault(number, []).append(one)
    return list(groups.values())
