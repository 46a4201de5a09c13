"""The acquisitions of pairs as a dataset has them: their files, their times, their ground."""

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from torchgeo.datasets import GeoDataset

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import InputError
from rscontrast.stac.pairing.places import Labels, Shapes
from rscontrast.stac.pairing.tolerance import Times, Tolerance


@dataclass(frozen=True)
class Files:
    """The rows of a dataset's index, found by collection and id."""

    index: gpd.GeoDataFrame
    """Of the dataset, maybe only a part of it."""
    items: gpd.GeoDataFrame | None
    """Of a STACDataset, a row for each of the index; None: the index is all that there is."""

    @classmethod
    def of(cls, dataset: GeoDataset, index: gpd.GeoDataFrame) -> "Files":
        """Look at a dataset, or at what a pair dataset wraps."""
        images = images_of(dataset)
        return cls(index, None if images is None else images.items.iloc[index["item"].to_numpy()])

    def frame(self) -> gpd.GeoDataFrame:
        """Items to pair: those of the dataset, or what any index tells, in their order."""
        if self.items is not None:
            return self.items
        names = [f"{row:08d}" for row in range(len(self.index))]
        times = pd.DatetimeIndex(self.index.index.left).tz_localize("UTC").as_unit("us")
        told = {"id": names, "collection": "", "datetime": times}
        return gpd.GeoDataFrame(
            told, geometry=self.index.geometry.to_numpy(), crs=self.index.crs
        ).to_crs("EPSG:4326")

    def rows(self, collections: Sequence[str], ids: Sequence[Sequence[str]]) -> list[Labels]:
        """Rows of the index that are files of each acquisition, -1 where it has none.

        Args:
            collections: of each acquisition, [A].
            ids: of the items of each, [A].
        """
        frame = self.frame() if self.items is None else self.items
        known = pd.Index(_keys(frame["collection"].to_list(), frame["id"].to_list()))
        counts = [len(names) for names in ids]
        parts = np.repeat(np.asarray(collections, dtype=object), counts)
        wanted = _keys(parts.tolist(), [name for names in ids for name in names])
        # An id may stand in a catalog twice: the first stands for both.
        first = known[~known.duplicated()]
        found = np.flatnonzero(~known.duplicated())[first.get_indexer(wanted)]
        found[first.get_indexer(wanted) < 0] = -1
        return np.split(found, np.cumsum(counts)[:-1])


def images_of(dataset: GeoDataset) -> STACDataset | None:
    """The STACDataset that this is, or that a pair dataset wraps."""
    while isinstance(dataset, TemporalPairDataset):
        dataset = dataset.dataset
    return dataset if isinstance(dataset, STACDataset) else None


def _keys(collections: list[str], ids: list[str]) -> list[str]:
    named = ("" if pd.isna(name) else name for name in collections)
    return [f"{name}\n{item}" for name, item in zip(named, ids, strict=True)]


@dataclass(frozen=True)
class Sides:
    """Acquisitions as the dataset has them."""

    start: Times
    """When the first file of each begins, [A]."""
    end: Times
    """When the last one ends, [A]."""
    known: NDArray[np.bool_]
    """Whether the dataset has its files, [A]."""

    @classmethod
    def by_rows(cls, rows: list[Labels], index: gpd.GeoDataFrame) -> "Sides":
        """Exact times of the files."""
        sizes = np.array([len(own) for own in rows])
        flat = np.concatenate(rows)
        first = np.cumsum(sizes) - sizes
        start = np.minimum.reduceat(index.index.left.to_numpy()[flat], first)
        end = np.maximum.reduceat(index.index.right.to_numpy()[flat], first)
        return cls(start, end, np.minimum.reduceat(flat, first) >= 0)

    @classmethod
    def by_times(cls, times: Times, index: gpd.GeoDataFrame, tolerance: Tolerance) -> "Sides":
        """What begins within the tolerance, where ids mean nothing to the dataset."""
        begins = np.sort(index.index.left.to_numpy())
        end = tolerance.latest(times)
        known = np.searchsorted(begins, end, side="right") > np.searchsorted(begins, times)
        return cls(times, end, known)

    def require(self, rows: Labels) -> None:
        """Refuse acquisitions that the dataset does not have.

        Raises:
            InputError: names the first one.
        """
        lost = rows[~self.known[rows]]
        if lost.size:
            allowed = "dates that the dataset has, in toi"
            raise InputError("pairs", pd.Timestamp(self.start[lost[0]]), allowed)

    def span(self, row: int) -> slice:
        """Time slice of an acquisition."""
        return slice(pd.Timestamp(self.start[row]), pd.Timestamp(self.end[row]))


def find_sides(
    files: Files, collections: Sequence[str], ids: Sequence[Sequence[str]], times: Times,
    tolerance: Tolerance, *, own: bool,
) -> tuple[Sides, list[Labels] | None]:  # fmt: skip
    """Find acquisitions in a dataset.

    Args:
        files: of the dataset.
        collections: of each acquisition, [A].
        ids: of its items, [A].
        times: when it begins, [A].
        tolerance: how long it lasts where the ids say nothing.
        own: whether the ids are of ``files.frame()``.

    Returns:
        the acquisitions, and the rows of each where these are known.
    """
    if not own and files.items is None:
        return Sides.by_times(times, files.index, tolerance), None
    rows = files.rows(collections, ids)
    sides = Sides.by_rows(rows, files.index)
    # An unknown one has no times in the index; its own name it in a message.
    start = np.where(sides.known, sides.start, times.astype(sides.start.dtype))
    return Sides(start, sides.end, sides.known), rows


def grounds(
    footprints: gpd.GeoSeries, rows: list[Labels] | None, index: gpd.GeoDataFrame
) -> Shapes:
    """Ground of acquisitions in the CRS of the dataset, [A]: no more than their files hold.

    Only corners are moved, since the edges of rasters are straight there, not in degrees.
    """
    shapes: Shapes = footprints.to_crs(index.crs).to_numpy()
    if rows is None:
        return shapes
    outlines = index.geometry.to_numpy()
    single = np.array([len(own) == 1 for own in rows])
    held = outlines[[own[0] for own in rows]]
    for many in np.flatnonzero(~single):
        held[many] = shapely.union_all(outlines[rows[many]])
    clipped: Shapes = shapely.intersection(shapes, held)
    return clipped
