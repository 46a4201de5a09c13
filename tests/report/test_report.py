"""What a reader would see: pixels of the figure, elements of the page."""

import resource
from base64 import b64decode
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from rscontrast.errors import InputError, WriteError
from rscontrast.metrics.segmentation import scores
from rscontrast.report import figure as layout
from rscontrast.report.figure import Panel, comparison_figure
from rscontrast.report.html import Picture, Stage, stage_table, write_report
from rscontrast.report.palette import (
    CHANGE_PALETTE,
    DAMAGE_PALETTE,
    NODATA_COLOUR,
    colour_labels,
    rgb,
)

VOID = {"meta", "img"}


def quadrants(a, b, c, d):
    """Labels [8, 8] that say where they are: a left and b right above c and d."""
    return np.kron(np.array([[a, b], [c, d]]), np.ones((4, 4))).astype(np.uint8)


def make_panel(**changes):
    ramp = np.tile(np.linspace(0, 0.2, 8, dtype=np.float32), (3, 8, 1))
    valid = np.ones((8, 8), bool)
    valid[:2, :2] = False
    fields = {
        "name": "Place",
        "pre": ramp,
        "post": ramp[:, :, ::-1],
        "truth": quadrants(4, 0, 1, 2),
        "prediction": quadrants(0, 1, 3, 255),
        "valid": valid,
    }
    return Panel(**{**fields, **changes})


def read(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def cell(picture, column, rows_above=0):
    """Pixels of an image of the figure, by the lengths that the layout publishes."""
    top = layout.MARGIN + layout.TITLE + layout.LEGEND_LINE + layout.NAME + layout.HEADING
    top += rows_above * (layout.NAME + layout.HEADING + layout.CELL)
    left = layout.MARGIN + column * (layout.CELL + layout.GAP)
    y, x, size = (round(layout.DPI * inches) for inches in (top, left, layout.CELL))
    return picture[y : y + size, x : x + size]


def pixel(image, row, column):
    """Colour of the middle of source pixel (row, column) of an 8 x 8 raster."""
    step = image.shape[0] / 8
    return tuple(image[int((row + 0.5) * step), int((column + 0.5) * step)])


def palette_colour(label):
    return rgb(DAMAGE_PALETTE[label][1])


@contextmanager
def full_disk(limit):
    """Let the system refuse to make a file longer than ``limit`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_figure_has_the_size_of_its_layout(tmp_path):
    comparison_figure([make_panel(), make_panel()], tmp_path / "f.png", title="T")
    width = 2 * layout.MARGIN + 4 * layout.CELL + 3 * layout.GAP
    height = 2 * layout.MARGIN + layout.TITLE + layout.LEGEND_LINE
    height += 2 * (layout.NAME + layout.HEADING + layout.CELL)
    expected = (height * layout.DPI, width * layout.DPI)
    assert read(tmp_path / "f.png").shape[:2] == pytest.approx(expected, abs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["f.png"]


def test_classes_appear_in_their_colours_at_their_places(tmp_path):
    second = make_panel(truth=quadrants(0, 0, 0, 4))
    comparison_figure([make_panel(), second], tmp_path / "f.png", title="T")
    picture = read(tmp_path / "f.png")
    truth, drawn = cell(picture, 2), cell(picture, 3)
    assert [pixel(truth, *place) for place in ((3, 3), (2, 6), (6, 2), (6, 6))] == [
        palette_colour(label) for label in (4, 0, 1, 2)
    ]
    assert [pixel(drawn, *place) for place in ((3, 3), (2, 6), (6, 2))] == [
        palette_colour(label) for label in (0, 1, 3)
    ]
    assert pixel(cell(picture, 2, rows_above=1), 6, 6) == palette_colour(4)


def test_pixels_without_data_are_light_grey(tmp_path):
    comparison_figure([make_panel()], tmp_path / "f.png", title="T")
    picture = read(tmp_path / "f.png")
    assert {pixel(cell(picture, column), 0, 0) for column in range(4)} == {rgb(NODATA_COLOUR)}
    assert pixel(cell(picture, 3), 6, 6) == rgb(NODATA_COLOUR)  # labelled 255


def test_both_dates_share_a_stretch(tmp_path):
    dark, bright = (np.full((3, 8, 8), value, np.float32) for value in (0.1, 0.3))
    dark[:, 4:] = 0.2
    dark[:, 0, 0] = np.nan  # not valid, so it may be anything
    comparison_figure([make_panel(pre=dark, post=bright)], tmp_path / "f.png", title="T")
    picture = read(tmp_path / "f.png")
    pre, post = cell(picture, 0), cell(picture, 1)
    assert [pixel(pre, 3, 3)[0], pixel(post, 3, 3)[0]] == [0, 255]
    assert pixel(pre, 6, 6)[0] == pytest.approx(127.5, abs=1)


def test_constant_and_empty_places_are_drawn(tmp_path):
    flat = np.full((3, 8, 8), 0.1, np.float32)
    empty = make_panel(valid=np.zeros((8, 8), bool))
    comparison_figure([make_panel(pre=flat, post=flat), empty], tmp_path / "f.png", title="T")
    assert pixel(cell(read(tmp_path / "f.png"), 0, rows_above=1), 5, 5) == rgb(NODATA_COLOUR)


def test_the_truth_column_goes_only_if_no_place_has_one(tmp_path):
    bare = make_panel(truth=None)
    comparison_figure([bare], tmp_path / "without.png", title="T")
    comparison_figure([bare, make_panel()], tmp_path / "with.png", title="T")
    without, mixed = read(tmp_path / "without.png"), read(tmp_path / "with.png")
    assert mixed.shape[1] - without.shape[1] == pytest.approx(
        (layout.CELL + layout.GAP) * layout.DPI, abs=1
    )
    assert pixel(cell(without, 2), 6, 2) == pixel(cell(mixed, 3), 6, 2) == palette_colour(3)


def test_the_legend_shows_each_colour(tmp_path):
    panel = make_panel(truth=None, prediction=quadrants(0, 0, 0, 0))
    comparison_figure([panel], tmp_path / "f.png", title="T")
    top = round((layout.MARGIN + layout.TITLE) * layout.DPI)
    strip = read(tmp_path / "f.png")[top : top + round(layout.LEGEND_LINE * layout.DPI)]
    seen = {tuple(colour) for colour in strip.reshape(-1, 3)}
    assert {palette_colour(label) for label in range(5)} | {rgb(NODATA_COLOUR)} <= seen


def test_bad_panels_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"post: got \(3, 8, 7\)"):
        make_panel(post=np.zeros((3, 8, 7), np.float32))
    with pytest.raises(InputError, match="valid: got"):
        make_panel(pre=np.full((3, 8, 8), np.nan, np.float32))
    panel = make_panel(prediction=quadrants(0, 0, 9, 0))
    with pytest.raises(InputError, match="prediction: got 9"):
        comparison_figure([panel], tmp_path / "f.png", title="T")
    with pytest.raises(InputError, match="panels: got"):
        comparison_figure([], tmp_path / "f.png", title="T")
    assert not list(tmp_path.iterdir())


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
COLOUR_BLINDNESS = {
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritan": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def to_lab(linear):
    """CIE L*a*b* (D65) of linear sRGB."""
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.maximum(matrix @ linear / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("blindness", sorted(COLOUR_BLINDNESS))
@pytest.mark.parametrize("palette", [DAMAGE_PALETTE, CHANGE_PALETTE], ids=["damage", "change"])
def test_colour_blind_readers_can_tell_the_classes_apart(palette, blindness):
    colours = []
    for _, colour in (*palette, ("no data", NODATA_COLOUR)):
        share = np.array(rgb(colour)) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        colours.append(to_lab(np.clip(COLOUR_BLINDNESS[blindness] @ linear, 0, 1)))
    nearest = min(np.linalg.norm(a - b) for a, b in combinations(colours, 2))
    assert nearest > 20  # CIE76; about 2 can just be seen


class Page(HTMLParser):
    """Elements of a page; refuses tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def report(tmp_path):
    """Write a report and give its path, with a hostile string wherever text can go in."""
    hostile = '<script>alert("x")</script>&'
    shown, folder = tmp_path / "figures" / "f.png", tmp_path / "out"
    Image.fromarray(colour_labels(quadrants(0, 1, 2, 3), DAMAGE_PALETTE)).save(make_parent(shown))
    output = make_parent(folder / "maps" / "a b#1.tif")
    output.write_bytes(bytes(2048))
    write_report(
        folder / "report.html",
        title=hostile,
        summary={"area" + hostile: "3 places" + hostile},
        stages=[Stage("search" + hostile, 1.26, "4 pairs" + hostile), Stage("map", 2.0, "")],
        scores=scores(np.array([[90, 10], [0, 0]]), ("background", hostile)),
        images=[Picture(shown, hostile, 'An "alt" text' + hostile)],
        outputs=[output, shown],
        environment={"python": "3.12"},
    )
    return folder / "report.html"


def make_parent(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_page_nests_and_escapes(report):
    page = Page(report.read_text(encoding="utf-8"))
    assert not page.all("script")
    assert "".join(page.text).count('<script>alert("x")</script>&') >= 9
    assert [name for name, _ in page.elements].count("section") == 6


def test_page_needs_nothing_from_outside(report):
    page = Page(report.read_text(encoding="utf-8"))
    assert not page.all("link")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert "url(" not in report.read_text(encoding="utf-8")


def test_page_embeds_the_image_with_its_alt_text(report):
    (image,) = Page(report.read_text(encoding="utf-8")).all("img")
    original = (report.parent.parent / "figures" / "f.png").read_bytes()
    assert b64decode(image["src"].partition(",")[2], validate=True) == original
    assert image["alt"] == 'An "alt" text<script>alert("x")</script>&'


def test_links_are_relative_and_lead_to_the_files(report):
    links = [link["href"] for link in Page(report.read_text(encoding="utf-8")).all("a")]
    assert links == ["maps/a%20b%231.tif", "../figures/f.png"]
    assert str(report.parent) not in report.read_text(encoding="utf-8")
    assert "2.0 KiB" in report.read_text(encoding="utf-8")


def test_scores_stand_in_tables(report):
    page = Page(report.read_text(encoding="utf-8"))
    cells = [text for text in page.text if text.strip()]
    assert len(page.all("table")) == 3
    assert {"90", "90%", "0.900", "0.947"} <= set(cells)


def test_report_without_reference_says_so(tmp_path):
    nothing = {"summary": {}, "stages": [], "images": [], "outputs": [], "environment": {}}
    write_report(tmp_path / "r.html", title="T", scores=None, **nothing)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert any("no reference labels" in text for text in page.text)
    assert len(page.all("table")) == 1


def test_bad_images_and_outputs_are_refused(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not an image")
    facts = {"title": "T", "summary": {}, "stages": [], "scores": None, "environment": {}}
    for images, outputs, message in (
        ([Picture(text, "", "")], [], "allowed: a PNG"),
        ([Picture(tmp_path / "none.png", "", "")], [], "a file that exists"),
        ([], [tmp_path / "none.tif"], "a file or folder that exists"),
    ):
        with pytest.raises(InputError, match=message):
            write_report(tmp_path / "r.html", images=images, outputs=outputs, **facts)
    assert [path.name for path in tmp_path.iterdir()] == ["text.png"]


def test_a_failing_write_leaves_nothing(tmp_path):
    facts = {"summary": {"long": "x" * 5000}, "environment": {}}
    facts |= {"stages": [], "scores": None, "images": [], "outputs": []}
    with full_disk(2000), pytest.raises(WriteError, match="no space left"):
        comparison_figure([make_panel()], tmp_path / "f.png", title="T")
    with full_disk(2000), pytest.raises(WriteError, match="no space left"):
        write_report(tmp_path / "r.html", title="T", **facts)
    assert not list(tmp_path.iterdir())


def test_stage_table_is_aligned_and_adds_up():
    lines = stage_table([Stage("search", 1.26, "24 pairs"), Stage("map", 100, "3 tiles")])
    assert lines.splitlines() == [
        "stage   seconds  figure",
        "search      1.3  24 pairs",
        "map       100.0  3 tiles",
        "total     101.3",
    ]
