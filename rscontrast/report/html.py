"""The report of a run: one HTML file that needs no network and no script."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from rscontrast.atomic import write_text
from rscontrast.errors import InputError
from rscontrast.metrics.segmentation import Scores, share_text
from rscontrast.report.markup import facts, head, number, row, scrollable, table, text
from rscontrast.report.style import STYLE


@dataclass(frozen=True)
class Stage:
    """One step of a run."""

    name: str
    """What was done, such as "pretrain"."""
    seconds: float
    """Wall time."""
    figure: str
    """What came out, in a few words, such as "24 pairs"."""


@dataclass(frozen=True)
class Picture:
    """A PNG that the report embeds."""

    path: Path
    """The PNG."""
    caption: str
    """Shown under it."""
    alt: str
    """What it shows, for those who cannot see it."""


def stage_table(stages: Sequence[Stage]) -> str:
    """Stages and their total as aligned text, for a terminal."""
    rows = [("stage", "seconds", "figure"), *_stage_rows(stages)]
    name, seconds = (max(len(cells[i]) for cells in rows) for i in (0, 1))
    lines = (f"{first:<{name}}  {time:>{seconds}}  {what}".rstrip() for first, time, what in rows)
    return "\n".join(lines)


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, str],
    stages: Sequence[Stage],
    scores: Scores | None,
    images: Sequence[Picture],
    outputs: Sequence[Path],
    environment: Mapping[str, str],
) -> None:
    """Write a report that opens in any browser, on a phone too, in light and dark.

    Args:
        path: HTML file to write, whole or not at all.
        title: heading of the report.
        summary: what went in, by name.
        stages: what was done, in order.
        scores: of the map; None if there was no reference to score it by.
        images: PNGs to embed, in order.
        outputs: files and folders that were written; linked relative to the report's folder.
        environment: version of each program and package, by name.

    Raises:
        InputError: an image is no PNG, or an output does not exist.
        WriteError: the file cannot be written.
    """
    sections = {
        "What went in": facts(summary),
        "Stages": _stage_section(stages),
        "Figures": "".join(map(_figure, images)),
        "Scores": _score_section(scores),
        "Files": _links(outputs, Path(path).resolve().parent),
        "Versions": facts(environment),
    }
    body = "\n".join(
        f"<section>\n<h2>{name}</h2>\n{content}\n</section>"
        for name, content in sections.items()
        if content
    )
    write_text(path, PAGE.format(title=escape(title), style=STYLE, body=body))


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


def _stage_rows(stages: Sequence[Stage]) -> list[tuple[str, str, str]]:
    rows = [(stage.name, f"{stage.seconds:.1f}", stage.figure) for stage in stages]
    return [*rows, ("total", f"{sum(stage.seconds for stage in stages):.1f}", "")]


def _stage_section(stages: Sequence[Stage]) -> str:
    rows = [row(name, [number(time), text(what)]) for name, time, what in _stage_rows(stages)]
    headings = head("stage", [("seconds", True), ("figure", False)])
    return table("Wall time and outcome of each stage", headings, rows, "total")


def _figure(picture: Picture) -> str:
    try:
        data = picture.path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("images", str(picture.path), "a file that exists") from error
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise InputError("images", str(picture.path), "a PNG")
    source = f"data:image/png;base64,{b64encode(data).decode()}"
    image = f'<img src="{source}" alt="{escape(picture.alt)}">'
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    return f"<figure>{scrollable(image, picture.alt)}{caption}</figure>"


def _score_section(scores: Scores | None) -> str:
    if scores is None:
        return "<p>There were no reference labels, so nothing was scored.</p>"
    headline = {
        "overall accuracy": scores.accuracy,
        "mean IoU": scores.mean_iou,
        "mean F1": scores.mean_f1,
        "IoU without background": scores.foreground_iou,
        "F1 without background": scores.foreground_f1,
    }
    tiles = "".join(
        f"<div><dt>{name}</dt><dd>{share_text(share)}</dd></div>"
        for name, share in headline.items()
    )
    return f'<dl class="tiles">{tiles}</dl>\n{_class_table(scores)}\n{_matrix_table(scores)}'


def _class_table(scores: Scores) -> str:
    shares = zip(scores.iou, scores.f1, scores.precision, scores.recall, strict=True)
    rows = [
        row(name, [*(number(share_text(share)) for share in of_class), number(f"{pixels:,}")])
        for name, of_class, pixels in zip(
            scores.class_names, shares, scores.confusion.sum(axis=1), strict=True
        )
    ]
    names = ("IoU", "F1", "precision", "recall", "true pixels")
    headings = head("class", [(name, True) for name in names])
    return table("Scores of each class (- where it does not occur)", headings, rows)


def _matrix_table(scores: Scores) -> str:
    rows = []
    for name, counts in zip(scores.class_names, scores.confusion.tolist(), strict=True):
        total = max(sum(counts), 1)
        cells = [
            f'<td class="n" style="--share:{count / total:.3f}">{count:,}'
            f"<small>{count / total:.0%}</small></td>"
            for count in counts
        ]
        rows.append(row(name, cells))
    headings = head("truth ↓ map →", [(name, True) for name in scores.class_names])
    caption = "Confusion matrix: pixels, and their share of the true class"
    return table(caption, headings, rows, "matrix")


def _links(outputs: Sequence[Path], folder: Path) -> str:
    return f"<ul>{''.join(_link(output, folder) for output in outputs)}</ul>" if outputs else ""


def _link(output: Path, folder: Path) -> str:
    if not output.exists():
        raise InputError("outputs", str(output), "a file or folder that exists")
    place = output.resolve().relative_to(folder, walk_up=True).as_posix()
    size = "folder" if output.is_dir() else _size(output.stat().st_size)
    return f'<li><a href="{quote(place)}">{escape(place)}</a> <small>{size}</small></li>'


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
