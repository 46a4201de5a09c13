"""A run is finished whole: killed at any moment it leaves no half file, and the next mends it."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image

from rscontrast.errors import WriteError
from rscontrast.products import finish
from rscontrast.products.pictures import coarse, pictures
from rscontrast.report.palette import class_palette
from tests.mapping.running import small_plan
from tests.products import painted
from tests.products.conftest import QUIET

pytestmark = QUIET

ROOT = Path(__file__).parents[2]


def without_ledger(folder):
    return {k: v for k, v in painted.tree(folder).items() if not k.startswith(".ledger")}


def test_a_second_call_changes_no_byte(finished, plan, model, results, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    before = painted.tree(tmp_path / "run")
    finish(tmp_path / "run", plan, model, results[1])
    assert painted.tree(tmp_path / "run") == before
    # Nor does one that makes everything anew.
    (tmp_path / "run" / ".ledger" / "products.json").unlink()
    finish(tmp_path / "run", plan, model, results[1])
    assert painted.tree(tmp_path / "run") == before


def test_what_is_there_is_not_made_again(finished, plan, model, results, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    old = (tmp_path / "run" / "mosaic" / "classes.tif").stat().st_ino
    finish(tmp_path / "run", plan, model, results[1])
    assert (tmp_path / "run" / "mosaic" / "classes.tif").stat().st_ino == old
    # A file that was damaged since is.
    (tmp_path / "run" / "mosaic" / "classes.tif").write_bytes(b"II*")
    finish(tmp_path / "run", plan, model, results[1])
    assert painted.tree(tmp_path / "run") == painted.tree(finished)


CODE = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {root!r})
from rscontrast.products import finish
from tests.products import painted
plan = painted.plan_of(painted.tiles())
results = painted.write_maps({folder!r}, plan)
print("begin", flush=True)
finish({folder!r}, plan, painted.settings({model!r}), results)
"""


@pytest.mark.parametrize("until", ["mosaic/.cog-*.tmp", "polygons.parquet", "items/*.json"])
def test_a_killed_run_leaves_no_half_file(finished, plan, model, results, tmp_path, until):
    folder = tmp_path / "run"
    code = CODE.format(root=str(ROOT), folder=str(folder), model=str(Path(model.checkpoint).parent))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout.readline() == b"begin\n"
        limit = time.monotonic() + 60
        while not list(folder.glob(until)) and time.monotonic() < limit:
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert not (folder / "catalog.json").exists() or until.startswith("items")
    whole = without_ledger(finished)
    for name, digest in without_ledger(folder).items():
        if not Path(name).name.startswith(".") and "/.cog-" not in name:
            assert whole[name] == digest, name
    finish(folder, plan, model, results[1])
    assert painted.tree(folder) == painted.tree(finished)


def test_what_is_no_longer_there_goes(finished, plan, model, results, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    east = [result for result in results[1] if result.id.startswith("32633")]
    finish(tmp_path / "run", plan, model, east)
    names = without_ledger(tmp_path / "run")
    assert "mosaic/classes_32633.vrt" in names
    assert "mosaic/classes_32632.vrt" not in names
    assert not [n for n in names if n.startswith(("items/32632", "previews/32632"))]
    with rasterio.open(tmp_path / "run" / "mosaic" / "classes.tif") as file:
        assert file.crs.to_epsg() == 32633


def test_a_full_disk_leaves_what_was(finished, plan, model, results, tmp_path):
    """No file may grow: each appears whole or not at all, and the next call mends it."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "mosaic" / "classes.tif").unlink()
    before = without_ledger(tmp_path / "run")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(WriteError):
            finish(tmp_path / "run", plan, model, results[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert without_ledger(tmp_path / "run") == before
    finish(tmp_path / "run", plan, model, results[1])
    assert painted.tree(tmp_path / "run") == painted.tree(finished)


def test_objects_are_whole_across_tiles_and_zones(finished):
    polygons = gpd.read_parquet(finished / "polygons.parquet").set_index("class_name")
    assert len(polygons) == 2
    radius = painted.DISC[2]
    assert polygons.loc["destroyed", "area_m2"] == pytest.approx(np.pi * radius**2, rel=0.01)
    assert shapely.intersects(polygons.loc["destroyed", "geometry"], shapely.Point(12.0, 46.0))
    buildings = gpd.read_parquet(finished / "buildings.parquet")
    assert sorted(buildings["grade_name"]) == ["destroyed", "no-damage"]
    assert (buildings["probability"] > 0.9).all()


def test_known_footprints_are_graded(finished, plan, model, results, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    houses = gpd.GeoDataFrame(
        {"name": ["ruin", "hut"]},
        geometry=[shapely.box(12.0, 45.9995, 12.0004, 46.0), shapely.Point(HUT).buffer(2e-4)],
        crs="EPSG:4326",
    )
    finish(tmp_path / "run", plan, model, results[1], footprints=houses)
    graded = gpd.read_parquet(tmp_path / "run" / "buildings.parquet").set_index("name")
    assert graded["grade"].to_dict() == {"ruin": 4, "hut": 1}


HUT = painted.HUT[:2]


def test_styles_have_the_colours_of_the_palette(finished):
    tree = ET.parse(finished / "mosaic" / "classes.qml")
    entries = [(e.get("label"), e.get("color")) for e in tree.iter("paletteEntry")]
    assert entries == list(class_palette(painted.NAMES))
    ramp = ET.parse(finished / "mosaic" / "probabilities.qml").getroot()
    assert ramp.find("pipe/rasterrenderer").get("band") == "5"
    values = [float(item.get("value")) for item in ramp.iter("item")]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0, 254)
    for name in ("polygons", "buildings"):
        categories = ET.parse(finished / f"{name}.qml").getroot().iter("category")
        assert [c.get("label") for c in categories] == list(painted.NAMES)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_stands_alone(finished):
    text = (finished / "preview.html").read_text()
    page = Page(text)
    assert "http" not in text
    assert "url(" not in text
    assert not page.all("link")
    assert not [script for script in page.all("script") if "src" in script]
    images = page.all("img")
    assert len(images) == 3
    assert all(i["src"].startswith("data:image/png;base64,") and i["alt"] for i in images)
    assert [i["type"] for i in page.all("input")] == ["range", "range"]
    assert len(page.all("label")) == 2
    assert page.all("html")[0]["lang"] == "en"
    for said in ("What changed", "destroyed", "200 m", "Imagery: made-up, scenes", "2022-05-01"):
        assert said in text


def test_quicklooks_show_the_scenes(tmp_path, model):
    """Real scenes, which hold more than grey."""
    plan = small_plan(aoi=(11.9775, 46.0, 11.9795, 46.0013))
    results = painted.write_maps(tmp_path, plan, lambda x, _: np.where(x > 11.978, 4, 0))
    finish(tmp_path, plan, model, results, title="<Two> & two")
    page = (tmp_path / "preview.html").read_text()
    assert "&lt;Two&gt; &amp; two" in page
    for job in plan.jobs:
        for name in ("pre", "post", "map"):
            with Image.open(tmp_path / "previews" / f"{job.id}_{name}.png") as image:
                assert image.size == (128, 128)
    spread = [
        np.asarray(Image.open(path))[..., :3].std() for path in tmp_path.glob("previews/*_pre.png")
    ]
    assert max(spread) > 20


def test_pictures_meet_at_the_border_of_zones(finished, plan, results):
    from rscontrast.products.done import done_jobs, zones
    from rscontrast.products.mosaic import mosaic_geobox

    jobs = done_jobs(plan, results[1])
    box = coarse(mosaic_geobox(zones(jobs)), 400)
    shown = pictures(finished, jobs, box, None, finished / "mosaic" / "classes.tif")
    longitude, latitude = painted.degrees(box)
    disc = painted.metres(longitude, latitude, painted.DISC) < painted.DISC[2] - 20
    assert (shown.classes[disc] == 4).all()
    cut = shown.trimmed()
    assert cut.classes.shape < shown.classes.shape
    assert (cut.classes == 4).sum() == (shown.classes == 4).sum()


def test_nothing_done_makes_an_empty_catalog(plan, model, tmp_path):
    finish(tmp_path, plan, model, [])
    assert (tmp_path / "catalog.json").is_file()
    assert not list(tmp_path.glob("mosaic/*"))


def test_uncertainty_is_a_raster_of_its_own(tmp_path, model):
    plan = painted.plan_of(painted.tiles())
    results = painted.write_maps(tmp_path, plan, unsure=True)
    finish(tmp_path, plan, model, results)
    with rasterio.open(tmp_path / "mosaic" / "uncertainty.tif") as file:
        assert file.descriptions == ("uncertainty",)
        assert set(np.unique(file.read())) == {100, 255}
    with rasterio.open(tmp_path / "mosaic" / "probabilities.tif") as file:
        assert file.descriptions == painted.NAMES
    assert (tmp_path / "mosaic" / "uncertainty.qml").is_file()
    buildings = gpd.read_parquet(tmp_path / "buildings.parquet")
    assert sorted(buildings["grade_name"]) == ["destroyed", "no-damage"]
