"""The page to look at a run with: before, after and the map, in one HTML file.

It holds its pictures, its style and its few lines of script, so that it opens from a disk without
a network. The slider that wipes between the dates is a form's own, so that keys move it, too.
"""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import geopandas as gpd

from rscontrast.atomic import write_text
from rscontrast.buildings.weights import ground_area
from rscontrast.io.grid import crs_wkt
from rscontrast.mapping.native import part
from rscontrast.products.pictures import Picture, Pictures, png
from rscontrast.report.markup import facts
from rscontrast.report.palette import NODATA_COLOUR, Palette
from rscontrast.report.style import STYLE


@dataclass(frozen=True, eq=False)
class View:
    """One area to look at."""

    name: str
    """Its heading."""
    pictures: Pictures
    """What is seen of it."""
    pre: str
    """When it was before: "2022-05-01"."""
    post: str
    """When it was after."""
    km2: Mapping[str, float]
    """Ground of each class."""


def write_page(
    path: Path,
    views: Sequence[View],
    palette: Palette,
    *,
    title: str,
    summary: Mapping[str, str],
    attribution: str,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: HTML file.
        views: areas, in order.
        palette: of the classes; the first is let be seen through.
        title: heading of the page.
        summary: facts about the run, by name.
        attribution: whose imagery it is.

    Raises:
        WriteError: the disk does not take it.
    """
    sections = "".join(_section(n, view, palette) for n, view in enumerate(views))
    body = (
        f"<main><h1>{escape(title)}</h1><section>{facts(summary)}</section>{sections}"
        f"<footer><p>{escape(attribution)}</p></footer></main>"
    )
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{SWIPE}</style></head>"
        f"<body>{body}<script>{SCRIPT}</script></body></html>\n"
    )
    write_text(path, text)


def _section(number: int, view: View, palette: Palette) -> str:
    name = escape(view.name)
    height, width = view.pictures.geobox.shape
    painted = view.pictures.painted(palette, background=0)
    bar, length = scale_bar(view.pictures)
    return (
        f'<section aria-labelledby="h{number}"><h2 id="h{number}">{name}</h2>'
        f'<div class="swipe" style="--cut: 50%; --map: .8; aspect-ratio: {width} / {height}">'
        f"{_image(view.pictures.post, f'{view.name} after, {view.post}', 'post')}"
        f"{_image(view.pictures.pre, f'{view.name} before, {view.pre}', 'pre')}"
        f"{_image(painted, f'Map of {view.name}: {_said(view.km2)}', 'map')}"
        '<div class="cut" aria-hidden="true"></div>'
        f'<span class="date left" aria-hidden="true">before, {escape(view.pre)}</span>'
        f'<span class="date right" aria-hidden="true">after, {escape(view.post)}</span>'
        f'<div class="bar" style="width: {bar:.2%}"><span>{escape(length)}</span></div></div>'
        '<div class="controls">'
        f'<label>Before and after <input type="range" min="0" max="100" value="50" data-set="--cut"'
        ' data-unit="%" aria-valuetext="50 % before"></label>'
        f'<label>Map <input type="range" min="0" max="100" value="80" data-set="--map"'
        ' data-unit="" aria-valuetext="80 % opaque"></label></div>'
        f"{_legend(view.km2, palette)}</section>"
    )


def _image(picture: Picture, alt: str, kind: str) -> str:
    data = b64encode(png(picture)).decode()
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def _said(km2: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {area:,.2f} square kilometres" for name, area in km2.items())


def _legend(km2: Mapping[str, float], palette: Palette) -> str:
    rows = (
        f'<li><span class="chip" style="background: {colour}"></span>{escape(name)}'
        f" <small>{km2.get(name, 0.0):,.3f} km²</small></li>"
        for name, colour in palette
    )
    veil = f'<li><span class="chip" style="background: {NODATA_COLOUR}"></span>not mapped</li>'
    note = f"<p><small>{escape(palette[0][0])} is not painted.</small></p>" if palette else ""
    return f'<ul class="legend" aria-label="Classes of the map">{"".join(rows)}{veil}</ul>{note}'


def scale_bar(shown: Pictures) -> tuple[float, str]:
    """Share of the picture's width, and length, of a round number of metres, about a fifth."""
    width = shown.geobox.shape[1] * ground_pixel(shown)
    digits = 10.0 ** math.floor(math.log10(width / 5))
    length = next(n for n in (5, 2, 1) if n * digits <= width / 5) * digits
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return length / width, text


def ground_pixel(shown: Pictures) -> float:
    """Side of a pixel in the middle on the ground, metres, also in a CRS that stretches it."""
    box, (height, width) = shown.geobox, shown.geobox.shape
    pixel = part(box, height // 2, width // 2, 1, 1).extent.geom
    return math.sqrt(float(ground_area(gpd.GeoSeries([pixel], crs=crs_wkt(box)))[0]))


SWIPE = """
.swipe { position: relative; touch-action: pan-y; user-select: none;
  width: 100%; max-height: 85vh; margin: 0 auto .75rem;
  overflow: hidden; border-radius: .4rem; background: #d9d9d9; }
.swipe img { pointer-events: none; position: absolute;
  inset: 0; width: 100%; height: 100%; min-width: 0;
  border-radius: 0; background: none; image-rendering: pixelated; }
.swipe .pre { clip-path: inset(0 calc(100% - var(--cut)) 0 0); }
.swipe .map { opacity: var(--map); }
.swipe .cut { position: absolute; inset: 0 auto 0 calc(var(--cut) - 1.5px); width: 3px;
  background: #fff; box-shadow: 0 0 0 1px #0008; }
.swipe .date, .swipe .bar { position: absolute; color: #fff; background: #000a; font-size: .8rem;
  padding: .1rem .5rem; border-radius: .3rem; }
.swipe .left { top: .5rem; left: .5rem; } .swipe .right { top: .5rem; right: .5rem; }
.swipe .bar { left: .5rem; bottom: .5rem; padding: 0; background: none; border-radius: 0;
  border: 2px solid #fff; border-top: 0; height: .5rem; filter: drop-shadow(0 0 1px #000); }
.swipe .bar span { position: absolute; left: .2rem; bottom: .25rem; white-space: nowrap; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin-bottom: .75rem; }
.controls label { flex: 1 1 14rem; color: var(--soft); font-size: .9rem; }
.controls input { width: 100%; accent-color: var(--accent); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.25rem; }
.chip { display: inline-block; width: .9rem; height: .9rem; margin-right: .4rem;
  border: 1px solid var(--soft); border-radius: .2rem; vertical-align: -.1rem; }
footer { color: var(--soft); font-size: .85rem; }
"""

SCRIPT = """
for (const swipe of document.querySelectorAll('.swipe')) {
  const input = swipe.parentElement.querySelector('input[data-set="--cut"]');
  const move = (event) => {
    const box = swipe.getBoundingClientRect();
    if (event.buttons & 1) input.value = 100 * (event.clientX - box.left) / box.width;
    input.dispatchEvent(new Event('input'));
  };
  swipe.addEventListener('pointerdown', move);
  swipe.addEventListener('pointermove', move);
}
for (const input of document.querySelectorAll('input[data-set]')) {
  const swipe = input.closest('section').querySelector('.swipe');
  const set = () => {
    const share = input.dataset.unit ? input.value + '%' : input.value / 100;
    swipe.style.setProperty(input.dataset.set, share);
    const what = input.dataset.unit ? ' % before' : ' % opaque';
    input.setAttribute('aria-valuetext', input.value + what);
  };
  input.addEventListener('input', set);
  set();
}
"""
