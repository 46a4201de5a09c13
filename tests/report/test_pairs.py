"""The figure of pairs, by its pixels, and the map by what it shows."""

import tracemalloc
from itertools import combinations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from matplotlib import colormaps

from rscontrast.errors import EmptySearchError, WriteError
from rscontrast.report import pairs as layout
from rscontrast.report.pairdates import BARS, SEASONS, STRADDLING, DateCounts, coarsen, short
from rscontrast.report.pairmap import COLOURS, EVEN, RATIOS, PlaceMap, degrees
from rscontrast.report.pairs import PairFigure, draw_pairs
from rscontrast.report.palette import rgb
from rscontrast.stac import pair_items
from rscontrast.stac.pairing.rule import YEAR, season_days
from tests.report.test_report import COLOUR_BLINDNESS, full_disk, read, to_lab

FEWEST, MOST = (tuple(colormaps[COLOURS]([end], bytes=True)[0][:3]) for end in (0.0, 1.0))


def table(gaps, *, place=0, area=None, straddles=False):
    gaps = np.asarray(gaps, dtype=float)
    area = shapely.box(10, 45, 10.1, 45.1) if area is None else area
    return gpd.GeoDataFrame(
        {
            "gap_days": gaps,
            "season_days": season_days(gaps),
            "straddles_event": straddles,
            "place": place,
        },
        geometry=np.full(len(gaps), area),
        crs="EPSG:4326",
    )


def many(places=30, seed=0):
    """Places of the world with their pairs."""
    rng = np.random.default_rng(seed)
    frames = []
    for place in range(places):
        x, y = rng.uniform(-170, 170), rng.uniform(-60, 70)
        gaps = rng.uniform(1, 2000, rng.integers(1, 40))
        area, straddles = shapely.box(x, y, x + 1, y + 1), rng.random(len(gaps)) < 0.4
        frames.append(table(gaps, place=place, area=area, straddles=straddles))
    return pd.concat(frames, ignore_index=True)


def where(picture, colour, tolerance=2):
    """Rows and columns of the pixels of a colour."""
    if isinstance(colour, str):
        colour = rgb(colour)
    return np.nonzero(np.abs(picture - np.array(colour)).max(axis=2) <= tolerance)


def lay_out(areas, counts=None):
    areas = np.array(areas, dtype=object)
    return PlaceMap.lay_out(areas, np.arange(1, len(areas) + 1) if counts is None else counts)


def test_batches_are_drawn_as_the_whole(tmp_path):
    pairs = many()
    batches = (pairs.iloc[start : start + 7] for start in range(0, len(pairs), 7))
    assert draw_pairs(pairs, tmp_path / "whole.png") == tmp_path / "whole.png"
    draw_pairs(batches, str(tmp_path / "batches.png"))
    assert np.array_equal(read(tmp_path / "whole.png"), read(tmp_path / "batches.png"))
    assert len(list(tmp_path.iterdir())) == 2


def test_the_lazy_table_is_drawn_as_its_frame(tmp_path, sample_items):
    pairs = pair_items(sample_items, event="2022-08-15")
    draw_pairs(pairs, tmp_path / "lazy.png")
    draw_pairs(pairs.frame(), tmp_path / "frame.png")
    assert np.array_equal(read(tmp_path / "lazy.png"), read(tmp_path / "frame.png"))


def test_memory_grows_with_places_not_with_pairs():
    pairs = many()
    figure = PairFigure()
    figure.add(pairs)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(50):
        figure.add(pairs)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000


class TestMap:
    @pytest.mark.parametrize("latitude", [0, 45, -70])
    def test_a_square_on_the_ground_is_drawn_square(self, tmp_path, latitude):
        width = 0.1 / np.cos(np.radians(latitude + 0.05))
        area = shapely.box(10, latitude, 10 + width, latitude + 0.1)
        draw_pairs(table([10, 500], area=area), tmp_path / "f.png")
        rows, columns = where(read(tmp_path / "f.png"), EVEN)
        assert np.ptp(columns) == pytest.approx(np.ptp(rows), rel=0.02)
        assert np.ptp(rows) > 2 * layout.DPI

    def test_places_lie_where_they_are_and_dark_is_many(self, tmp_path):
        spots = {"west": (10, 1), "middle": (11, 10), "east": (12, 100)}
        frames = [
            table(np.full(count, 30), place=name, area=shapely.box(x, 45, x + 0.4, 45.4))
            for name, (x, count) in spots.items()
        ]
        draw_pairs(frames, tmp_path / "f.png")
        picture = read(tmp_path / "f.png")
        map_rows = picture[: round(layout.DPI * (layout.HEADING + 2))]
        few, most = (np.median(where(map_rows[:, :1300], colour)[1]) for colour in (FEWEST, MOST))
        assert few < 650 < most

    def test_across_180_degrees(self):
        """Two places on either side and one on the line, which is one area on the map."""
        halves = [shapely.box(179.5, -17, 180, -16), shapely.box(-180, -17, -179.5, -16)]
        areas = [
            shapely.box(177, -17, 178, -16), shapely.MultiPolygon(halves),
            shapely.box(-178, -17, -177, -16),
        ]  # fmt: skip
        drawn = lay_out(areas)
        west, _, east, _ = drawn.bounds
        assert 175 < west < 177
        assert 183 < east < 185
        assert shapely.bounds(drawn.footprints)[:, 0] == pytest.approx([177, 179.5, 182])
        assert [shape.geom_type for shape in drawn.footprints] == ["Polygon"] * 3

    @pytest.mark.parametrize("lowest", [-170, 0])
    def test_what_spans_the_world_is_not_moved(self, lowest):
        areas = [shapely.box(x, 0, x + 1, 1) for x in range(lowest, 175, 7)]
        drawn = lay_out(areas)
        assert list(drawn.footprints) == areas
        if lowest < 0:
            assert drawn.bounds == (-180, -90, 180, 90)

    @pytest.mark.parametrize("seed", range(40))
    def test_all_places_are_within_proportions_that_can_be_looked_at(self, seed):
        rng = np.random.default_rng(seed)
        size = 10 ** rng.uniform(-3, 1)
        spread = np.array([360, 180]) * 10 ** rng.uniform(-4, 0, 2)
        middle = rng.uniform(-180, 180), rng.uniform(-85, 85)
        x, y = (np.array(middle) + (rng.random((20, 2)) - 0.5) * spread).T
        x, y = (x + 180) % 360 - 180, y.clip(-89, 89)
        size = min(size, 1)
        areas = [
            shapely.box(a, b, min(a + size, 180), min(b + size, 90))
            for a, b in zip(x, y, strict=True)
        ]
        drawn = lay_out(areas)
        west, south, east, north = drawn.bounds
        bounds = shapely.total_bounds(drawn.footprints)
        assert (bounds[:2] >= (west - 1e-9, south - 1e-9)).all()
        assert (bounds[2:] <= (east + 1e-9, north + 1e-9)).all()
        assert -90 <= south < north <= 90
        assert east - west <= 360
        assert RATIOS[0] - 1e-6 <= drawn.ratio <= RATIOS[1] + 1e-6
        assert shapely.area(drawn.footprints) == pytest.approx(shapely.area(np.array(areas)))

    def test_dots_and_densities(self, tmp_path):
        """What is too small for an outline is a dot; too many dots are a density."""
        rng = np.random.default_rng(0)
        for count in (300, 21_000):
            x, y = rng.uniform(0, 60, count), rng.uniform(0, 40, count)
            areas = shapely.box(x, y, x + 0.01, y + 0.01)
            pairs = gpd.GeoDataFrame(
                {"gap_days": 20.0, "season_days": 20.0, "straddles_event": False}
                | {"place": np.arange(count)},
                geometry=areas,
                crs="EPSG:4326",
            )
            draw_pairs(pairs, tmp_path / "f.png")
            picture = read(tmp_path / "f.png")[: layout.DPI * 5, : layout.DPI * 8]
            painted = (np.ptp(picture, axis=2) > 20).mean()
            assert 0.005 < painted < 0.1 if count == 300 else painted > 0.3

    def test_the_fullest_dot_is_on_top(self, tmp_path):
        frames = [
            table(np.full(count, 30), place=place, area=shapely.box(x, 0, x + 0.01, 0.01))
            for place, (x, count) in enumerate([(0, 5), (0, 100), (0, 1), (60, 10)])
        ]
        draw_pairs(frames, tmp_path / "f.png")
        map_area = read(tmp_path / "f.png")[: layout.DPI * 3, : round(layout.DPI * 8.5)]
        assert len(where(map_area, MOST)[0]) > 20
        assert not len(where(map_area, FEWEST)[0])

    def test_pairs_without_common_ground_have_no_map(self, tmp_path):
        line = shapely.LineString([(0, 0), (1, 1)])
        draw_pairs([table([3, 90], area=area) for area in (shapely.Polygon(), line)],
                   tmp_path / "f.png")  # fmt: skip
        draw_pairs(table([3, 90]), tmp_path / "map.png")
        heights = [read(tmp_path / name).shape[0] for name in ("f.png", "map.png")]
        assert heights[1] - heights[0] > 3 * layout.DPI

    @pytest.mark.parametrize(
        ("value", "letters", "text"),
        [(12.5, "EW", "12.5° E"), (182, "EW", "178° W"), (-180, "EW", "180°"), (0, "NS", "0°"),
         (-0.0000001, "EW", "0°"), (-33.25, "NS", "33.25° S")],
    )  # fmt: skip
    def test_degrees(self, value, letters, text):
        assert degrees(value, letters) == text


class TestDates:
    def test_a_pair_is_drawn_at_its_gap_and_season(self, tmp_path):
        """Root scale: of gaps from 1 to 400 days, 100 days lies in the middle."""
        draw_pairs(table([1, 100, 399], area=shapely.Polygon()), tmp_path / "f.png")
        picture = read(tmp_path / "f.png")
        top = layout.HEADING + layout.TOP_BARS + layout.BETWEEN
        width = layout.WIDTH - layout.LEFT - layout.RIGHT - layout.SIDE_BARS - layout.BETWEEN

        def colour(gap, season):
            x = layout.LEFT + width * (np.sqrt(gap) - 1) / 19
            y = top + layout.HEAT * (1 - season / (YEAR / 2))
            return tuple(picture[round(y * layout.DPI), round(x * layout.DPI)])

        white = (255, 255, 255)
        assert colour(101, 98) != white
        assert colour(101, 50) == colour(150, 98) == colour(50, 98) == white
        assert colour(1.2, 3) != white

    def test_counts_are_those_of_pandas(self):
        pairs, counts = many(), DateCounts()
        counts.add(pairs)
        edges, joined = coarsen(counts.edges, counts.counts)
        assert joined.sum() == len(pairs)
        assert joined.sum(axis=(1, 2)).tolist() == pairs["straddles_event"].value_counts().tolist()
        assert len(edges) - 1 == joined.shape[1] <= 80
        cut = pd.cut(np.sqrt(pairs["gap_days"]), edges, right=False)
        assert joined.sum(axis=(0, 2)).tolist() == cut.value_counts(sort=False).tolist()
        cut = pd.cut(pairs["season_days"], SEASONS, right=False)
        assert joined.sum(axis=(0, 1)).tolist() == cut.value_counts(sort=False).tolist()

    @pytest.mark.parametrize("gap", [0, 0.01, 365.2425, 40_000, 1e7])
    def test_any_single_gap_is_drawn(self, tmp_path, gap):
        draw_pairs(table([gap]), tmp_path / "f.png")
        counts = DateCounts()
        counts.add(table([gap]))
        edges, joined = coarsen(counts.edges, counts.counts)
        assert joined.sum() == 1
        assert edges[0] <= np.sqrt(min(gap, 100 * YEAR)) <= edges[-1]

    def test_only_an_event_brings_its_colour(self, tmp_path):
        for straddles in (False, True):
            draw_pairs(table([10, 90, 300], straddles=straddles), tmp_path / "f.png")
            rows, _ = where(read(tmp_path / "f.png"), STRADDLING)
            assert (len(rows) > 500) == straddles

    @pytest.mark.parametrize(
        ("value", "text"),
        [(5, "5"), (1200, "1.2k"), (45_725, "45.7k"), (3e6, "3M"), (2.5e9, "2.5G")],
    )
    def test_short_numbers(self, value, text):
        assert short(value) == text


@pytest.mark.parametrize("blindness", sorted(COLOUR_BLINDNESS))
def test_colour_blind_readers_can_tell_the_colours_apart(blindness):
    def lab(colour):
        share = np.array(colour) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return to_lab(np.clip(COLOUR_BLINDNESS[blindness] @ linear, 0, 1))

    steps = [tuple(colour[:3]) for colour in colormaps[COLOURS](np.linspace(0, 1, 5), bytes=True)]
    for colours in (
        steps,
        [rgb(BARS), rgb(STRADDLING), (255, 255, 255)],
        [rgb(EVEN), rgb("#f4f5f7")],
    ):
        nearest = min(np.linalg.norm(lab(a) - lab(b)) for a, b in combinations(colours, 2))
        assert nearest > 15  # CIE76; about 2 can just be seen


def test_no_pair_or_no_space_leaves_nothing(tmp_path):
    with pytest.raises(EmptySearchError, match="no pair to draw"):
        draw_pairs([], tmp_path / "f.png")
    with full_disk(2000), pytest.raises(WriteError, match="no space left"):
        draw_pairs(many(), tmp_path / "f.png")
    assert not list(tmp_path.iterdir())
