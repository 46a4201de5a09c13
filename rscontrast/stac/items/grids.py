"""Many grids as columns: a GeoBox is made only of the one that is looked at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer

if TYPE_CHECKING:  # importing it takes longer than a local search
    from odc.geo.geobox import GeoBox

EDGES = 32
"""Parts that an outline is cut into where its edges bend: as many as fit its length."""


@dataclass(frozen=True, eq=False)
class Grids(Sequence["GeoBox"]):
    """One grid for each item, in their order."""

    names: tuple[str, ...]
    """The CRS that occur."""
    crs: NDArray[np.intp]
    """Which of the names, [N]."""
    shape: NDArray[np.int64]
    """Rows and columns, [N, 2]."""
    transform: NDArray[np.float64]
    """Affine of pixels to coordinates, a to f, [N, 6]."""

    @classmethod
    def of(cls, boxes: "Sequence[GeoBox]") -> "Grids":
        """Make columns of grids."""
        texts = [str(box.crs) for box in boxes]
        names = tuple(dict.fromkeys(texts))
        crs = np.array([names.index(text) for text in texts], dtype=np.intp)
        shape = np.array([box.shape for box in boxes], dtype=np.int64).reshape(-1, 2)
        affine = np.array([tuple(box.transform)[:6] for box in boxes], dtype=np.float64)
        return cls(names, crs, shape, affine.reshape(-1, 6))

    @classmethod
    def join(cls, parts: "Sequence[Grids]") -> "Grids":
        """Put columns below each other."""
        names = tuple(dict.fromkeys(name for part in parts for name in part.names))
        number = {name: n for n, name in enumerate(names)}
        crs = [np.array([number[n] for n in part.names], np.intp)[part.crs] for part in parts]
        shapes, affines = [part.shape for part in parts], [part.transform for part in parts]
        return cls(names, np.concatenate(crs), np.concatenate(shapes), np.concatenate(affines))

    def take(self, rows: NDArray[np.intp]) -> "Grids":
        """Leave some grids, in another order maybe."""
        used, crs = np.unique(self.crs[rows], return_inverse=True)
        names = tuple(self.names[number] for number in used)
        return Grids(names, crs, self.shape[rows], self.transform[rows])

    def __len__(self) -> int:
        """Count of the grids."""
        return len(self.crs)

    @overload
    def __getitem__(self, index: int) -> "GeoBox": ...
    @overload
    def __getitem__(self, index: slice) -> "list[GeoBox]": ...
    def __getitem__(self, index: int | slice) -> "GeoBox | list[GeoBox]":
        """Make one GeoBox, or some."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        from odc.geo.geobox import GeoBox

        rows, cols = self.shape[index].tolist()
        affine = Affine(*self.transform[index].tolist())
        return GeoBox((rows, cols), affine, _crs(self.names[self.crs[index]]))

    def __iter__(self) -> "Iterator[GeoBox]":
        """Make one after the other."""
        return (self[i] for i in range(len(self)))

    def distinct(self) -> tuple["Grids", NDArray[np.intp]]:
        """Leave out what repeats: the dates of a place share a grid.

        Returns:
            the grids that differ, and for each of these its number among them.
        """
        which = self.crs.astype(np.int64)
        for column in (*self.shape.T, *self.transform.T):
            values = pd.factorize(column)[0]
            which = pd.factorize(which * (values.max(initial=0) + 1) + values)[0]
        return self.take(np.unique(which, return_index=True)[1]), which

    def most(self) -> str:
        """The CRS of most of them; of several, the first by name."""
        count = np.bincount(self.crs, minlength=len(self.names))
        return min(zip(-count, self.names, strict=True))[1]

    def outlines(self, crs: Any) -> NDArray[Any]:
        """Outline of each in ``crs``, [N]; edges that bend there get points between the corners."""
        few, which = self.distinct()
        out = few._corners()
        for number, name in enumerate(self.names):
            here = few.crs == number
            if here.any() and not _same(name, crs):
                out[here] = _moved(out[here], name, crs)
        return out[which]

    def _corners(self) -> NDArray[Any]:
        """Rings in the grids' own CRS, in the order in which GeoBox gives them."""
        a, b, c, d, e, f = self.transform.T
        height, width = self.shape.T
        x, y = (
            np.array([[0, 0, 1, 1], [0, 1, 1, 0]])[:, :, None] * np.stack([width, height])[:, None]
        )
        points = np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)
        return np.asarray(shapely.polygons(points.transpose(1, 0, 2)))


def _moved(outlines: NDArray[Any], source: str, target: Any) -> NDArray[Any]:
    move = Transformer.from_crs(source, target, always_xy=True)
    dense = shapely.segmentize(outlines, shapely.length(outlines) / EDGES)
    moved: NDArray[Any] = shapely.transform(
        dense, lambda xy: np.column_stack(move.transform(xy[:, 0], xy[:, 1]))
    )
    return moved


@lru_cache(maxsize=256)
def _crs(name: str) -> Any:
    import odc.geo

    return odc.geo.CRS(name)


def _same(name: str, other: Any) -> bool:
    """Whether two CRS are one, whatever the order of their axes."""
    crs = CRS.from_user_input(name)
    return bool(crs.equals(CRS.from_user_input(other), ignore_axis_order=True))
