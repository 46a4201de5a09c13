"""One raster of all tiles: exact in one zone, without a gap across two."""

import shutil
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from rasterio.windows import from_bounds

from rscontrast.errors import GridError
from rscontrast.products import maker, mosaic
from rscontrast.products.done import Done, done_jobs, touching, zones
from rscontrast.products.mosaic import mosaic_geobox, write_cog
from rscontrast.products.vrt import write_vrt
from rscontrast.report.palette import class_palette, rgb
from tests.products import painted
from tests.products.painted import NAMES


def read(path):
    with rasterio.open(path) as file:
        return file.read(), file.read_masks(1) > 0, file.transform, file.crs


def inner(longitude, latitude):
    """Ground that is a few pixels away from the border of what is mapped."""
    across = (longitude > 11.9903) & (longitude < 12.0097)
    return across & (latitude > 45.9953) & (latitude < 46.0047)


def grid_degrees(path):
    with rasterio.open(path) as file:
        box = mosaic.GeoBox(file.shape, file.transform, file.crs.to_wkt())
    return painted.degrees(box)


def test_a_zones_vrt_is_its_tiles(finished, plan):
    for zone in ("32632", "32633"):
        with rasterio.open(finished / "mosaic" / f"probabilities_{zone}.vrt") as whole:
            assert whole.descriptions == NAMES
            assert whole.scales[0] == pytest.approx(1 / 254)
            for job in (job for job in plan.jobs if job.id.startswith(zone)):
                with rasterio.open(finished / job.id / "probabilities.tif") as tile:
                    window = from_bounds(*tile.bounds, transform=whole.transform)
                    assert np.array_equal(whole.read(window=window), tile.read())
                    told = whole.dataset_mask(window=window)
                    assert np.array_equal(told, tile.dataset_mask())


def test_the_folder_may_move(finished, tmp_path):
    before = read(finished / "mosaic" / "classes_32633.vrt")
    shutil.copytree(finished, tmp_path / "elsewhere")
    text = (finished / "mosaic" / "classes_32633.vrt").read_text()
    names = [node.text for node in ET.fromstring(text).iter("SourceFilename")]
    assert names
    assert all(name.startswith("../32633_") for name in names)
    after = read(tmp_path / "elsewhere" / "mosaic" / "classes_32633.vrt")
    assert np.array_equal(before[0], after[0])
    assert (before[0] != 255).any()


def test_one_zone_is_exact(tmp_path, model):
    plan = painted.plan_of(painted.tiles(west=12.001))
    results = painted.write_maps(tmp_path, plan)
    found = zones(done_jobs(plan, results))
    write_vrt(tmp_path, tmp_path / "all.vrt", found[0], "classes.tif")
    write_cog(tmp_path / "all.tif", mosaic_geobox(found), found, [tmp_path / "all.vrt"])
    cog, vrt = read(tmp_path / "all.tif"), read(tmp_path / "all.vrt")
    assert np.array_equal(cog[0], vrt[0])
    assert cog[2:] == vrt[2:]
    assert (cog[0] == 4).any()


@pytest.mark.parametrize("crs", [None, "EPSG:3035", "EPSG:4326", "EPSG:32633"])
def test_two_zones_leave_no_gap(finished, plan, results, tmp_path, crs):
    found = zones(done_jobs(plan, results[1]))
    vrts = [finished / "mosaic" / f"classes_{zone.name}.vrt" for zone in found]
    write_cog(tmp_path / "all.tif", mosaic_geobox(found, crs), found, vrts)
    classes, valid, _, _ = read(tmp_path / "all.tif")
    longitude, latitude = grid_degrees(tmp_path / "all.tif")
    known, there = painted.truth(longitude, latitude), inner(longitude, latitude)
    border = there & (np.abs(longitude - painted.EAST) < 3e-4)
    assert border.sum() > 300
    assert valid[border].all()
    # The disc lies across the border: only its rim may be half a pixel off.
    assert (classes[0] == known)[border].mean() > 0.98
    assert (classes[0] == known)[there].mean() > 0.995
    cloud = painted.metres(longitude, latitude, painted.CLOUD)
    assert not valid[cloud < painted.CLOUD[2] - 8].any()


def test_without_the_neighbours_there_would_be_gaps(finished, plan, results, tmp_path, monkeypatch):
    monkeypatch.setattr(mosaic, "_AROUND", [])
    found = zones(done_jobs(plan, results[1]))
    vrts = [finished / "mosaic" / f"classes_{zone.name}.vrt" for zone in found]
    write_cog(tmp_path / "all.tif", mosaic_geobox(found), found, vrts)
    longitude, latitude = grid_degrees(tmp_path / "all.tif")
    border = inner(longitude, latitude) & (np.abs(longitude - painted.EAST) < 3e-4)
    assert not read(tmp_path / "all.tif")[1][border].all()


def test_four_zones_at_the_equator(tmp_path):
    plan = painted.plan_of(painted.tiles(south=-0.004, north=0.004))
    assert {job.id[:5] for job in plan.jobs} == {"32632", "32633", "32732", "32733"}
    results = painted.write_maps(tmp_path, plan, lambda x, _: np.where(x < 12, 1, 2))
    found = zones(done_jobs(plan, results))
    vrts = [tmp_path / f"{zone.name}.vrt" for zone in found]
    for zone, path in zip(found, vrts, strict=True):
        write_vrt(tmp_path, path, zone, "classes.tif")
    write_cog(tmp_path / "all.tif", mosaic_geobox(found), found, vrts)
    classes, valid, _, _ = read(tmp_path / "all.tif")
    longitude, latitude = grid_degrees(tmp_path / "all.tif")
    there = (np.abs(longitude - 12) < 0.0097) & (np.abs(latitude) < 0.0037)
    assert valid[there].all()
    clear = there & (np.abs(longitude - 12) > 1e-4)
    assert (classes[0] == np.where(longitude < 12, 1, 2))[clear].all()


def test_blocks_change_nothing(finished, plan, results, tmp_path, monkeypatch):
    found = zones(done_jobs(plan, results[1]))
    vrts = [finished / "mosaic" / f"classes_{zone.name}.vrt" for zone in found]
    write_cog(tmp_path / "a.tif", mosaic_geobox(found), found, vrts)
    monkeypatch.setattr(mosaic, "BLOCK", 77)
    write_cog(tmp_path / "b.tif", mosaic_geobox(found), found, vrts)
    assert np.array_equal(read(tmp_path / "a.tif")[0], read(tmp_path / "b.tif")[0])


def test_classes_and_probabilities_agree(finished):
    classes, valid, *_ = read(finished / "mosaic" / "classes.tif")
    chances, told, *_ = read(finished / "mosaic" / "probabilities.tif")
    assert np.array_equal(valid, told)
    assert np.array_equal(chances.argmax(axis=0)[valid], classes[0][valid])


def test_a_mosaic_has_colours_and_overviews(finished):
    with rasterio.open(finished / "mosaic" / "classes.tif") as file:
        table, overviews = file.colormap(1), file.overviews(1)
        assert file.profile["blockxsize"] == 256
    assert overviews
    for number, (_, colour) in enumerate(class_palette(NAMES)):
        assert table[number][:3] == rgb(colour)


def test_a_mask_of_a_files_own_counts(tmp_path):
    plan = painted.plan_of(painted.tiles(west=12.004)[:1])
    (result,) = painted.write_maps(tmp_path, plan)
    path = tmp_path / plan.jobs[0].id / "classes.tif"
    with rasterio.open(path) as file:
        profile, classes = file.profile, file.read()
    profile.update(driver="GTiff", nodata=None)
    usable = np.zeros(classes.shape[1:], bool)
    usable[:40] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(np.where(classes == 255, 0, classes))
        file.write_mask(usable)
    found = zones(done_jobs(plan, [result]))
    write_vrt(tmp_path, tmp_path / "all.vrt", found[0], "classes.tif")
    assert np.array_equal(read(tmp_path / "all.vrt")[1], usable)


def test_places_far_apart_get_their_own(monkeypatch):
    found = [*painted.tiles(west=12.008), *painted.tiles(west=30.0, east=30.002)]
    plan = painted.plan_of(found)
    results = [maker_result(job.id) for job in plan.jobs]
    jobs = done_jobs(plan, results)
    areas = touching(jobs)
    assert [len({one.job.id[:5] for one in area}) for area in areas] == [1, 1]
    assert sum(map(len, areas)) == len(jobs)
    assert len(maker._areas(jobs, None)) == 1
    monkeypatch.setattr(maker, "LARGE", 1000)
    assert len(maker._areas(jobs, None)) == 2


def maker_result(name):
    return painted.Result(name, {}, 0.1, 1.0, 0.1, ())


def test_another_lattice_is_refused(plan, results):
    one, other = done_jobs(plan, results[1])[:2]
    moved = mosaic.GeoBox(
        other.job.geobox.shape,
        other.job.geobox.transform @ other.job.geobox.transform.translation(0.4, 0),
        other.job.geobox.crs,
    )
    job = painted.Job(other.job.id, moved, other.job.pre, other.job.post)
    with pytest.raises(GridError, match="another lattice"):
        zones([one, Done(job, other.result, other.ground)])


def test_memory_does_not_grow_with_the_mosaic(tmp_path):
    """Two small tiles at the ends of a zone: 50 million pixels between them are not held."""
    import tracemalloc

    near, far = painted.tiles(west=12.008)[0], painted.tiles(west=12.4, east=12.402)[0]
    plan = painted.plan_of([near, far])
    results = painted.write_maps(tmp_path, plan)
    found = zones(done_jobs(plan, results))
    write_vrt(tmp_path, tmp_path / "all.vrt", found[0], "classes.tif")
    box = mosaic_geobox(found)
    tracemalloc.start()
    write_cog(tmp_path / "all.tif", box, found, [tmp_path / "all.vrt"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert box.shape[1] > 6000
    assert peak < 60e6
