"""What is made of a run, one kind after the other, and where it is put."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd

import rscontrast
from rscontrast.mapping.job import Settings
from rscontrast.products.catalog import COG, PARQUET
from rscontrast.products.done import Done, Zone, touching, zones
from rscontrast.products.embeddings import NAME as EMBEDDING
from rscontrast.products.embeddings import write_embeddings
from rscontrast.products.mosaic import mosaic_geobox, write_cog
from rscontrast.products.page import View, write_page
from rscontrast.products.pictures import coarse, on_grey, pictures, write_png
from rscontrast.products.polygons import write_graded, write_polygons
from rscontrast.products.stamps import Stamps
from rscontrast.products.styles import write_class_style, write_polygon_style, write_ramp_style
from rscontrast.products.summary import days, km2, where
from rscontrast.products.vrt import write_vrt
from rscontrast.report.palette import Palette

MOSAIC, PREVIEWS = "mosaic", "previews"
UNCERTAINTY = "uncertainty"
STEPS = 254
"""Pixel of a raster of probabilities that stands for 1."""
SPARSE, LARGE = 64, 2**28
"""One mosaic of places far apart is not made where it had more pixels than the second, and more
than the first for each that is mapped: each place gets its own."""
PAGE_SIDE = 1400
"""Longest side of the page's pictures, pixels, where it shows one area."""


class Maker:
    """Writes what is made of a run, one kind after the other."""

    def __init__(
        self,
        folder: Path,
        jobs: list[Done],
        settings: Settings,
        palette: Palette,
        crs: str | None,
        footprints: gpd.GeoDataFrame | None,
    ) -> None:
        """Take what :func:`rscontrast.products.finish` was given."""
        self.folder, self.jobs, self.settings = folder, jobs, settings
        self.palette, self.crs, self.footprints = palette, crs, footprints
        self.written: set[Path] = set()
        self.assets: dict[str, dict[str, Any]] = {}
        self.quicklooks: dict[str, list[str]] = {}
        known = None if footprints is None else footprints.to_json()
        self.stamps = Stamps(folder, rscontrast.__version__, list(palette))
        self.facts = [crs, known, [_facts(one) for one in jobs]]
        self.areas = _areas(jobs, crs)
        self.maps: dict[str, list[Path]] = {}

    def mosaics(self) -> None:
        """Write a VRT for each zone and a COG for each area, with their styles."""
        found = zones(self.jobs)
        for kind in ("classes", "probabilities", UNCERTAINTY):
            vrts = []
            for zone in found:
                path = self.folder / MOSAIC / f"{kind}_{zone.name}.vrt"
                if self._vrt(path, kind, zone):
                    vrts.append(path)
                    self._add(path, f"{kind}-{zone.name}", "application/x-ogc-vrt", "data")
            if not vrts:
                continue
            self.maps[kind] = []
            for area in self.areas:
                self.maps[kind].append(self._cog(kind, area))
            for path in (*vrts, *self.maps[kind]):
                self._style(kind, path.with_suffix(".qml"))

    def _cog(self, kind: str, area: list[Done]) -> Path:
        suffix = "" if len(self.areas) == 1 else f"_{area[0].job.id}"
        path = self.folder / MOSAIC / f"{kind}{suffix}.tif"
        if not self.stamps.fresh([path], self.facts):
            # The VRTs of these tiles alone: those of all reach from one end of the earth to the
            # other where areas lie far apart.
            there = zones(area)
            scratch = [self.folder / MOSAIC / f".{kind}_{zone.name}.tmp.vrt" for zone in there]
            some = [
                (zone, vrt)
                for zone, vrt in zip(there, scratch, strict=True)
                if self._vrt(vrt, kind, zone)
            ]
            found = [zone for zone, _ in some]
            palette = self.palette if kind == "classes" else ()
            write_cog(path, mosaic_geobox(there, self.crs), found, [v for _, v in some], palette)
            for vrt in scratch:
                vrt.unlink(missing_ok=True)
            self._note(path)
        self._add(path, path.stem.replace("_", "-"), COG, "data")
        return path

    def _vrt(self, path: Path, kind: str, zone: Zone) -> bool:
        """Write a zone's VRT of classes, of their probabilities or of the band behind these."""
        count = len(self.palette)
        if kind == "classes":
            return write_vrt(self.folder, path, zone, "classes.tif", self.palette)
        shown = [count + 1] if kind == UNCERTAINTY else range(1, count + 1)
        return write_vrt(self.folder, path, zone, "probabilities.tif", shown=shown)

    def _style(self, kind: str, path: Path) -> None:
        if kind == "classes":
            write_class_style(path, self.palette)
        elif kind == "probabilities":
            band = len(self.palette)
            write_ramp_style(path, band, STEPS, f"probability of {self.palette[-1][0]}")
        else:
            write_ramp_style(path, 1, STEPS, UNCERTAINTY)
        self.written.add(path)

    def polygons(self) -> None:
        """Write the polygons of all classes but the first, and the buildings with their grades."""
        if "classes" not in self.maps:
            return
        maps, names = self.maps["classes"], [name for name, _ in self.palette]
        self._table("polygons", "class", lambda path: write_polygons(path, maps, names))
        chances = self.maps.get("probabilities")
        # Regions of one change are no buildings; grades of damage are.
        if chances and (self.footprints is not None or len(names) > 2):
            known = self.footprints
            self._table("buildings", "grade", lambda p: write_graded(p, maps, chances, known))

    def _table(self, name: str, column: str, write: Callable[[Path], int]) -> None:
        path = self.folder / f"{name}.parquet"
        if not self.stamps.fresh([path], self.facts):
            write(path)
            self._note(path)
        write_polygon_style(path.with_suffix(".qml"), self.palette, column)
        self._add(path, name, PARQUET, "data")

    def embeddings(self) -> None:
        """Write the table of all embeddings, where an encoder made the run."""
        jobs = [one for one in self.jobs if one.file(EMBEDDING) is not None]
        if jobs:
            path = self.folder / "embeddings.parquet"
            if not self.stamps.fresh([path], self.facts):
                write_embeddings(path, self.folder, jobs)
                self._note(path)
            self._add(path, "embeddings", PARQUET, "data")

    def previews(self, title: str, attribution: str) -> None:
        """Write the quicklooks of each job, and the page."""
        provider = self.settings.provider
        for one in self.jobs:
            places = [
                self.folder / PREVIEWS / f"{one.job.id}_{w}.png" for w in ("map", "pre", "post")
            ]
            if not self.stamps.fresh(places, _facts(one)):
                shown = pictures(self.folder, [one], coarse(one.job.geobox), provider)
                drawn = (shown.painted(self.palette), on_grey(shown.pre), on_grey(shown.post))
                for path, picture in zip(places, drawn, strict=True):
                    write_png(path, picture)
                self.stamps.note(places, _facts(one))
            self.written.update(places)
            self.quicklooks[one.job.id] = [f"{PREVIEWS}/{path.name}" for path in places]
        self.stamps.save()
        page = self.folder / "preview.html"
        if not self.stamps.fresh([page], self.facts, title, attribution):
            self._page(page, title, attribution)
            self.stamps.note([page], self.facts, title, attribution)
        self._add(page, "preview", "text/html", "overview")

    def _page(self, path: Path, title: str, attribution: str) -> None:
        side = max(256, round(PAGE_SIDE / math.sqrt(max(1, len(self.areas)))))
        views = []
        maps = self.maps.get("classes", [None] * len(self.areas))
        for area, classes in zip(self.areas, maps, strict=True):
            box = coarse(mosaic_geobox(zones(area), self.crs), side)
            shown = pictures(self.folder, area, box, self.settings.provider, classes).trimmed()
            pre = days(item for one in area for item in one.job.pre)
            post = days(item for one in area for item in one.job.post)
            views.append(View(where(area), shown, pre, post, km2(area, self.palette)))
        total = sum(one.result.km2 for one in self.jobs)
        summary = {
            "Mapped": f"{total:,.2f} km², {len(self.jobs)} tiles",
            "Model": Path(self.settings.checkpoint).name,
            "Software": f"rscontrast {rscontrast.__version__}",
        }
        write_page(
            path, views, self.palette, title=title, summary=summary, attribution=attribution
        )  # fmt: skip

    def _note(self, path: Path) -> None:
        self.stamps.note([path], self.facts)
        self.stamps.save()

    def _add(self, path: Path, key: str, media: str, role: str) -> None:
        self.written.add(path)
        href = f"./{path.relative_to(self.folder).as_posix()}"
        self.assets[key] = {"href": href, "type": media, "roles": [role]}


def _facts(one: Done) -> list[Any]:
    """What all that is made of a job depends on."""
    scenes = [item["id"] for item in (*one.job.pre, *one.job.post)]
    return [one.job.id, sorted(one.result.files.items()), scenes]


def _areas(jobs: list[Done], crs: str | None) -> list[list[Done]]:
    """One area of all jobs, or several where between them there is much of nothing."""
    if not jobs:
        return []
    whole = math.prod(mosaic_geobox(zones(jobs), crs).shape)
    mapped = sum(math.prod(one.job.geobox.shape) for one in jobs)
    return touching(jobs) if whole > max(LARGE, SPARSE * mapped) else [jobs]
