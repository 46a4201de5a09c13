"""The contact sheet of views, by its pixels."""

import numpy as np
import pytest

from rscontrast.errors import InputError, WriteError
from rscontrast.report import views as layout
from rscontrast.report.palette import NODATA_COLOUR, rgb
from rscontrast.report.views import COLOURS, PatchViews, contact_sheet
from tests.report.test_report import full_disk, read

# View pixel to patch pixel, for views of 20 x 20 from a patch of 40 x 60.
CROP = np.array([[1.0, 0, 10], [0, 1.0, 5], [0, 0, 1]])
FLIP = np.array([[-1.0, 0, 29], [0, 1.0, 5], [0, 0, 1]])
TURN = np.array([[0.0, -1, 29], [1.0, 0, 5], [0, 0, 1]])


def make_patch(bands=3, matrices=(CROP, FLIP), count=2, **changes):
    """Dates dark on the left and bright on the right; views half as bright as that."""
    image = np.zeros((count, bands, 40, 60), np.float32)
    image[..., 30:] = 0.4
    views = len(matrices)
    given = {
        "dates": image,
        "dates_valid": np.ones((count, 40, 60), bool),
        "views": np.full((views, bands, 20, 20), 0.2, np.float32),
        "views_valid": np.ones((views, 20, 20), bool),
        "matrix": np.stack(matrices),
        "names": tuple(f"date {n}" for n in range(count)),
    }
    return PatchViews(**(given | changes))


def cell(picture, column, tall=1.0):
    """Pixels of an image of the first row, by the lengths that the layout publishes."""
    m = layout
    x = m.MARGIN + column * (m.CELL + m.GAP)
    y = m.MARGIN + m.TITLE + 2 * m.NOTE + m.HEADING
    box = np.rint(np.array([y, y + m.CELL * tall, x, x + m.CELL]) * m.DPI).astype(int)
    return picture[box[0] : box[1], box[2] : box[3]]


def near(image, colour):
    return np.abs(image.astype(int) - rgb(colour)).max(axis=-1) <= 3


def draw(folder, *patches):
    contact_sheet(patches, folder / "v.png", title="T", note="N")
    return read(folder / "v.png")


@pytest.mark.parametrize(
    ("matrix", "first", "second"),
    [
        (CROP, (9.5, 4.5), (29.5, 4.5)),
        (FLIP, (29.5, 4.5), (9.5, 4.5)),
        (TURN, (29.5, 4.5), (29.5, 24.5)),
    ],
    ids=["crop", "flip", "turn"],
)
def test_the_first_edge_tells_crops_flips_and_turns_apart(matrix, first, second):
    patch = make_patch(matrices=(matrix,))
    corners = patch.footprint(0)
    np.testing.assert_allclose(corners[:2], [first, second])
    np.testing.assert_allclose(
        sorted(map(tuple, corners)), sorted(map(tuple, make_patch().footprint(0)))
    )
    assert patch.share(0) == pytest.approx(400 / 2400)


def test_a_footprint_is_drawn_where_the_view_lies(tmp_path):
    date = cell(draw(tmp_path, make_patch(matrices=(CROP,), count=1)), 0, tall=40 / 60)
    rows, columns = np.nonzero(near(date, COLOURS[0]))
    pixel = layout.CELL * layout.DPI / 60  # of the patch, in pixels of the picture
    found = np.array([columns.min(), rows.min(), columns.max(), rows.max()]) / pixel
    # Edges of the crop; lines and dots are up to a patch's pixel wide here.
    np.testing.assert_allclose(found, [10, 5, 30, 25], atol=1.0)


@pytest.mark.parametrize(("matrix", "side"), [(CROP, "top"), (TURN, "right")])
def test_the_first_edge_is_the_thick_one(tmp_path, matrix, side):
    date = cell(draw(tmp_path, make_patch(matrices=(matrix,), count=1)), 0, tall=40 / 60)
    drawn = near(date, COLOURS[0])
    pixel = layout.CELL * layout.DPI / 60
    left, top, right, bottom = (round(edge * pixel) for edge in (10, 5, 30, 25))
    middle, centre = (top + bottom) // 2, (left + right) // 2
    thick = {
        "top": drawn[top - 8 : top + 8, centre].sum(),
        "bottom": drawn[bottom - 8 : bottom + 8, centre].sum(),
        "left": drawn[middle, left - 8 : left + 8].sum(),
        "right": drawn[middle, right - 8 : right + 8].sum(),
    }
    assert max(thick, key=thick.get) == side
    assert all(thick[side] > 2 * width > 0 for name, width in thick.items() if name != side)


def test_views_share_the_stretch_of_their_dates(tmp_path):
    picture = draw(tmp_path, make_patch(count=1))
    date, view = cell(picture, 0, tall=40 / 60), cell(picture, 1)
    assert date[10, 10].tolist() == [0, 0, 0]
    assert date[10, -10].tolist() == [255, 255, 255]
    assert view[100, 100].tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    ("bands", "colour"), [(1, [128] * 3), (2, [128, 255, 255]), (3, [128, 255, 0])]
)
def test_one_two_and_three_bands(tmp_path, bands, colour):
    views = np.zeros((1, bands, 20, 20), np.float32)
    views += np.array([0.2, 0.4, 0.0][:bands], np.float32)[:, None, None]
    picture = draw(tmp_path, make_patch(bands, (CROP,), views=views))
    assert cell(picture, 2)[100, 100].tolist() == colour


def test_what_is_not_valid_is_light_grey_and_an_empty_patch_is_drawn(tmp_path):
    nothing = np.full((2, 3, 40, 60), np.nan, np.float32)
    empty = make_patch(
        dates=nothing, dates_valid=np.zeros((2, 40, 60), bool),
        views_valid=np.zeros((2, 20, 20), bool),
    )  # fmt: skip
    picture = draw(tmp_path, empty)
    assert near(cell(picture, 2)[50:-50, 50:-50], NODATA_COLOUR).all()
    assert near(cell(picture, 0, tall=40 / 60)[-20:, -20:], NODATA_COLOUR).all()


def test_each_patch_is_a_row(tmp_path):
    one, two = draw(tmp_path, make_patch()), draw(tmp_path, make_patch(), make_patch())
    row = (layout.CELL + layout.HEADING + layout.GAP) * layout.DPI
    assert len(two) - len(one) == pytest.approx(row, abs=1)
    inner = slice(20, -20)
    np.testing.assert_array_equal(cell(one, 3)[inner, inner], cell(two, 3)[inner, inner])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"bands": 4}, "bands"),
        ({"names": ("only one",)}, "names"),
        ({"matrix": np.eye(3)[None]}, "matrix"),
    ],
)
def test_bad_rows_are_refused(changes, name):
    with pytest.raises(InputError, match=name):
        make_patch(**changes)


def test_no_row_and_a_full_disk_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"^patches: got"):
        contact_sheet([], tmp_path / "v.png", title="T")
    with full_disk(1000), pytest.raises(WriteError):
        contact_sheet([make_patch()], tmp_path / "v.png", title="T")
    assert not list(tmp_path.iterdir())
