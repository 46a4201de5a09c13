"""Any GeoDataset seen at two dates: the sample of a temporal pair."""

from collections.abc import Sequence
from typing import Literal

import pandas as pd
import torch
from pyproj import CRS
from torchgeo.datasets import GeoDataset
from torchgeo.datasets.utils import GeoSlice, Sample

from rscontrast.datasets.dates import join_dates
from rscontrast.datasets.labels import STACLabels
from rscontrast.datasets.stac import STACDataset, Transform
from rscontrast.errors import InputError, choose

LAYOUTS = ("time", "channels")
type Layout = Literal["time", "channels"]
type PairSlice = tuple[slice, slice, tuple[slice, slice]]


class TemporalPairDataset(GeoDataset):
    """A GeoDataset whose samples hold two dates of one place.

    ``dataset[x, y, (t1, t2)]`` gives ``image`` [2, C, H, W] (or [2C, H, W] in the layout
    "channels", which TorchGeo's own self-supervised tasks take), ``valid`` [2, H, W] where the
    dataset knows it, ``dates`` [2] (unix seconds), ``bounds`` and ``transform``. Files of one date
    are mosaicked, since each date is read as one time slice.

    ``pairs & labels`` joins any dataset: what it holds between the two dates comes along.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        layout: Layout = "time",
        extras: Sequence[GeoDataset] = (),
        transforms: Transform | None = None,
    ) -> None:
        """Wrap a dataset.

        Args:
            dataset: any GeoDataset with an ``image``, also an intersection.
            layout: "time" or "channels".
            extras: datasets that are read once for both dates (labels, terrain).
            transforms: applied to each sample.

        Raises:
            InputError: an unknown layout.
        """
        self.layout: Layout = choose("layout", layout, LAYOUTS)
        self.dataset, self.extras, self.transforms = dataset, tuple(extras), transforms
        self.index = dataset.index

    @property
    def crs(self) -> CRS:
        """CRS of the wrapped dataset."""
        return self.dataset.crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        for dataset in (self.dataset, *self.extras):
            dataset.crs = new_crs
        self.index = self.dataset.index

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size of the wrapped dataset."""
        return self.dataset.res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        for dataset in (self.dataset, *self.extras):
            dataset.res = new_res

    def __and__(  # type: ignore[override]  # TorchGeo's joins samples of one time; ours stays pairs
        self, other: GeoDataset
    ) -> "TemporalPairDataset":
        """Join a dataset that is read once a pair, over the time between the dates."""
        if not isinstance(other, GeoDataset):
            raise TypeError(f"& joins GeoDatasets, not {type(other).__name__}")
        dataset = self.dataset
        if not (isinstance(other, STACLabels) and other.images is dataset):
            dataset = dataset.on_grid() if isinstance(dataset, STACDataset) else dataset
            other.crs, other.res = dataset.crs, dataset.res
        return TemporalPairDataset(
            dataset,
            layout=self.layout,
            extras=(*self.extras, other),
            transforms=self.transforms,
        )

    def __getitem__(self, index: PairSlice | GeoSlice) -> Sample:
        """Read one pair.

        Args:
            index: slices x and y, and two time slices; or any slice of TorchGeo's, within which
                the first and the last acquisition are the pair.

        Raises:
            IndexError: nothing lies there, or the one time slice holds a single date.
            InputError: the dataset stacks dates itself (``time_series=True``).
        """
        x, y, (pre, post) = self._resolve(index)
        parts = [self.dataset[x, y, t] for t in (pre, post)]
        images = [part["image"] for part in parts]
        if images[0].ndim != 3:
            raise InputError("dataset", tuple(images[0].shape), "images [C, H, W], one date each")
        sample = {key: value for key, value in parts[1].items() if key not in ("image", "valid")}
        for extra in self.extras:
            between = extra[x, y, slice(pre.start, post.stop)]
            if "image" in between:
                images = [torch.cat([image, between["image"]]) for image in images]
            known = (*sample, "image", "valid")
            sample |= {key: value for key, value in between.items() if key not in known}
        sample["image"] = (torch.stack if self.layout == "time" else torch.cat)(images)
        if "valid" in parts[0]:
            sample["valid"] = torch.stack([part["valid"].all(dim=0) for part in parts])
        dates = [pre.start.timestamp(), post.start.timestamp()]
        sample["dates"] = torch.tensor(dates, dtype=torch.float64)
        return sample if self.transforms is None else self.transforms(sample)

    def _resolve(self, index: PairSlice | GeoSlice) -> PairSlice:
        """Fill in what a slice leaves open, once, so that all datasets are read alike."""
        if isinstance(index, tuple) and len(index) == 3 and isinstance(index[2], tuple):
            x, y, _ = self._disambiguate_slice(index[:2])
            return x, y, index[2]
        x, y, t = self._disambiguate_slice(index)
        return x, y, self._ends(x, y, t)

    def _ends(self, x: slice, y: slice, t: slice) -> tuple[slice, slice]:
        rows = self.index.cx[x.start : x.stop, y.start : y.stop]
        rows = rows[rows.index.overlaps(pd.Interval(t.start, t.stop, closed="both"))]
        dates = join_dates(rows)
        if len(dates) < 2:
            raise IndexError(f"fewer than two dates at x {x}, y {y} in t {t}")
        start, end = dates["start"], dates["end"]
        return slice(start.iloc[0], end.iloc[0]), slice(start.iloc[-1], end.iloc[-1])
