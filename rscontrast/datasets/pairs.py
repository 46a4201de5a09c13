"""Any GeoDataset seen at two dates: the sample of a temporal pair."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import torch
from odc.geo.geobox import GeoBox
from pyproj import CRS
from torchgeo.datasets import GeoDataset
from torchgeo.datasets.utils import GeoSlice, Sample

from rscontrast.datasets.bounds import KnownBounds
from rscontrast.datasets.dates import join_dates
from rscontrast.datasets.ground import common_ground
from rscontrast.datasets.onto import Onto, ReadsDates
from rscontrast.datasets.place import patch_shape, upright
from rscontrast.datasets.registration import Image, Mask, register_post
from rscontrast.datasets.slices import PairDraw
from rscontrast.datasets.slices import PairSlice as PairSlice
from rscontrast.datasets.stac import STACDataset, Transform
from rscontrast.errors import InputError, choose, positive
from rscontrast.io.pool import submit

ALWAYS = pd.Timestamp("2200-01-01")
"""What TorchGeo says of files without a date ends beyond this."""

LAYOUTS = ("time", "channels")
type Layout = Literal["time", "channels"]


class TemporalPairDataset(KnownBounds):
    """A GeoDataset whose samples hold two dates of one place.

    ``dataset[x, y, (t1, t2)]`` gives ``image`` [2, C, H, W] (or [2C, H, W] in the layout
    "channels", which TorchGeo's own self-supervised tasks take), ``valid`` [2, H, W] where the
    dataset knows it, ``dates`` [2] (unix seconds), ``bounds`` and ``transform``. Files of one date
    are mosaicked, since each date is read as one time slice.

    ``pairs & labels`` joins any dataset: what it holds between the two dates comes along, on the
    grid of the imagery, also where that is the native one of each place. Its images must lie in
    that time (or be of all times), and come as float32; where no label does, ``mask`` is 255.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        layout: Layout = "time",
        extras: Sequence[GeoDataset] = (),
        register: float | None = None,
        transforms: Transform | None = None,
    ) -> None:
        """Wrap a dataset.

        Args:
            dataset: any GeoDataset with an ``image``, also an intersection.
            layout: "time" or "channels".
            extras: datasets that are read once for both dates (labels, terrain).
            register: move the second date onto the first where a shift of at most so many pixels
                is found between them, see :mod:`rscontrast.datasets.registration`.
            transforms: applied to each sample.

        Raises:
            InputError: an unknown layout, ``register`` is not above 0, the dataset has no dates,
                or the extras are pairs themselves or lie elsewhere.
        """
        if not isinstance(dataset, GeoDataset):
            raise InputError("dataset", type(dataset).__name__, "a GeoDataset")
        if (dataset.index.index.right > ALWAYS).all():
            raise InputError("dataset", type(dataset).__name__, "a dataset whose files have dates")
        for extra in extras:
            if not isinstance(extra, GeoDataset) or isinstance(extra, TemporalPairDataset):
                allowed = "GeoDatasets of one date a sample: TemporalPairDataset(a) & b, or (a & b)"
                raise InputError("extras", type(extra).__name__, allowed)
        self.layout: Layout = choose("layout", layout, LAYOUTS)
        self.register = None if register is None else positive("register", register)
        self.dataset, self.extras, self.transforms = dataset, tuple(extras), transforms
        self._extras = [Onto(extra) for extra in self.extras]
        self._common: tuple[gpd.GeoDataFrame, gpd.GeoDataFrame] | None = None
        _ = self.index  # says now whether there is common ground

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is found anew from the rest."""
        return super().__getstate__() | {"_common": None}

    @property
    def thread_safe(self) -> bool:
        """Whether many threads may read samples at once: as all that is read from allows."""
        return all(getattr(part, "thread_safe", False) for part in (self.dataset, *self.extras))

    @property
    def index(self) -> gpd.GeoDataFrame:
        """Index of the wrapped dataset, cut to the ground of the extras."""
        whole = self.dataset.index
        if not self.extras:
            return whole
        if self._common is None or self._common[0] is not whole:
            self._common = (whole, common_ground(whole, self.extras))
        return self._common[1]

    @index.setter
    def index(self, index: gpd.GeoDataFrame) -> None:
        # TorchGeo's splits restrict the pairs so; the wrapped dataset may be used elsewhere.
        self.dataset = copy.copy(self.dataset)
        self.dataset.index = index

    @property
    def crs(self) -> CRS:
        """CRS of the wrapped dataset."""
        return self.dataset.crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        self.dataset.crs = new_crs

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size of the wrapped dataset."""
        return self.dataset.res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        self.dataset.res = new_res

    def __and__(  # type: ignore[override]  # TorchGeo's joins samples of one time; ours stays pairs
        self, other: GeoDataset
    ) -> "TemporalPairDataset":
        """Join a dataset that is read once a pair, over the time between the dates.

        Raises:
            InputError: it lies elsewhere, or is a dataset of pairs.
        """
        if not isinstance(other, GeoDataset):
            raise TypeError(f"& joins GeoDatasets, not {type(other).__name__}")
        return TemporalPairDataset(
            self.dataset,
            layout=self.layout,
            extras=(*self.extras, other),
            register=self.register,
            transforms=self.transforms,
        )

    def __getitem__(self, index: PairDraw | PairSlice | GeoSlice) -> Sample:
        """Read one pair.

        Args:
            index: slices x and y, and two time slices; or any slice of TorchGeo's, within which
                the first and the last acquisition are the pair. Of a
                :class:`~rscontrast.datasets.slices.PairDraw` the first pair is read of which
                enough ground is valid on both dates (before any registration), else that of which
                most is: the sample then has ``tries`` (int64) and ``valid_share`` (float32).

        Raises:
            IndexError: nothing lies there, or the one time slice holds a single date.
            InputError: the dataset or an extra stacks dates itself (``time_series=True``), the
                draw asks for valid pixels, of which it knows nothing, or a slice has no pixel.
        """
        told: Sample = {}
        if isinstance(index, PairDraw):
            looked = list(self._tries(index))
            share, place, dates = max(looked, key=lambda one: one[0])
            told = {"tries": torch.tensor(len(looked)), "valid_share": torch.tensor(share)}
        else:
            place = self._resolve(index)
            dates = self._read(place)
        sample = self._join(place, dates) | told
        return sample if self.transforms is None else self.transforms(sample)

    def __getitems__(self, indexes: Sequence[PairDraw | PairSlice | GeoSlice]) -> list[Sample]:
        """Read several pairs at once, as torch's workers ask for a batch.

        Raises:
            IndexError, InputError: as ``dataset[index]``, of the first that cannot be read.
        """
        if not self.thread_safe:
            return [self[index] for index in indexes]
        reading = [submit("sample", self.__getitem__, index) for index in indexes]
        return [sample.result() for sample in reading]

    def _tries(self, draw: PairDraw) -> Iterator[tuple[float, PairSlice, Sequence[Sample]]]:
        """Read the pairs of a draw until one is good: with the share that is valid on both."""
        for place in map(self._resolve, (draw, *draw.spares)):
            dates = self._read(place)
            if "valid" not in dates[0]:
                allowed = "a dataset that knows which pixels are valid"
                raise InputError("min_valid", draw.min_valid, allowed)
            share = float((_valid(dates[0]) & _valid(dates[1])).mean())
            yield share, place, dates
            if share >= draw.min_valid:
                return

    def _read(self, place: PairSlice) -> Sequence[Sample]:
        """Samples of the two dates."""
        x, y, times = place
        if isinstance(self.dataset, ReadsDates):
            dates = self.dataset.dates(x, y, times)
        else:
            dates = [self.dataset[x, y, t] for t in times]
        _require_one_date("dataset", dates[0])
        return dates

    def _join(self, place: PairSlice, dates: Sequence[Sample]) -> Sample:
        """One sample of two dates and what lies between them.

        Arrays are joined by NumPy: torch would start a pool of threads in each thread that reads.
        """
        x, y, (pre, post) = place
        sample = {key: value for key, value in dates[1].items() if key not in ("image", "valid")}
        images, valid, shift = self._layers(dates)
        between = slice(min(pre.start, post.start), max(pre.stop, post.stop))
        for extra in self._extras:
            found = extra.read(self._geobox(x, y), between)
            if "image" in found:
                _require_one_date("extras", found)
                added = found["image"].numpy().astype(np.float32, copy=False)
                images = [np.concatenate([image, added]) for image in images]
                if "valid" in found:
                    valid = [part & _valid(found) for part in valid]
            known = (*sample, "image", "valid")
            sample |= {key: value for key, value in found.items() if key not in known}
        image = (np.stack if self.layout == "time" else np.concatenate)(images)
        sample["image"] = torch.from_numpy(image)
        if valid:
            sample["valid"] = torch.from_numpy(np.stack(valid))
        starts = [pre.start.timestamp(), post.start.timestamp()]
        return sample | shift | {"dates": torch.tensor(starts, dtype=torch.float64)}

    def _layers(self, dates: Sequence[Sample]) -> tuple[list[Image], list[Mask], Sample]:
        """Images and valid pixels (where known) of both dates, registered; and the shift."""
        pre, post = ((date["image"].numpy(), _valid(date)) for date in dates)
        if self.register is not None:
            image, usable, shift = register_post(pre, post, self.register)
            return [pre[0], image], [pre[1], usable], {"shift": torch.from_numpy(shift)}
        return [pre[0], post[0]], [pre[1], post[1]] if "valid" in dates[0] else [], {}

    def _geobox(self, x: slice, y: slice) -> GeoBox:
        if isinstance(self.dataset, STACDataset):
            return self.dataset.geobox(x, y)
        return upright(x, y, self.dataset.crs)

    def _resolve(self, index: PairSlice | GeoSlice) -> PairSlice:
        """Fill in what a slice leaves open, once, so that all datasets are read alike."""
        if isinstance(index, tuple) and len(index) == 3 and isinstance(index[2], tuple):
            x, y, _ = self._disambiguate_slice(index[:2])
            patch_shape(x, y)  # says now what no dataset can read
            return x, y, index[2]
        x, y, t = self._disambiguate_slice(index)
        patch_shape(x, y)
        return x, y, self._ends(x, y, t)

    def _ends(self, x: slice, y: slice, t: slice) -> tuple[slice, slice]:
        rows = self.index.cx[x.start : x.stop, y.start : y.stop]
        # By hand, since TorchGeo's split by time leaves instants that overlap nothing.
        rows = rows[(rows.index.left <= t.stop) & (rows.index.right >= t.start)]
        dates = join_dates(rows)
        if len(dates) < 2:
            raise IndexError(f"fewer than two dates at x {x}, y {y} in t {t}")
        start, end = dates["start"], dates["end"]
        return slice(start.iloc[0], end.iloc[0]), slice(start.iloc[-1], end.iloc[-1])


def _require_one_date(argument: str, sample: Sample) -> None:
    shape = tuple(sample["image"].shape)
    if len(shape) != 3:
        raise InputError(argument, shape, "images [C, H, W], one date each")


def _valid(date: Sample) -> Mask:
    """Usable pixels [H, W] of one date; all, where the dataset does not know."""
    if "valid" not in date:
        return np.ones(date["image"].shape[-2:], dtype=bool)
    usable: Mask = date["valid"].numpy().all(axis=0)
    return usable
