"""Pieces of HTML; every one escapes the text that it is given."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape


def facts(values: Mapping[str, str]) -> str:
    """Names and values, one below the other; nothing if there are none."""
    rows = (f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items())
    return f"<dl>{''.join(rows)}</dl>" if values else ""


def text(cell: str) -> str:
    """A cell of words."""
    return f"<td>{escape(cell)}</td>"


def number(cell: str) -> str:
    """A cell that stands to the right."""
    return f'<td class="n">{escape(cell)}</td>'


def row(name: str, cells: Sequence[str]) -> str:
    """A row of finished cells under a name."""
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'


def head(first: str, others: Sequence[tuple[str, bool]]) -> str:
    """Headings as (name, is of numbers); those of numbers stand to the right, as they do."""
    cells = "".join(
        f'<th scope="col"{" class=n" if number else ""}>{escape(name)}</th>'
        for name, number in others
    )
    return f'<tr><th scope="col">{escape(first)}</th>{cells}</tr>'


def table(caption: str, headings: str, rows: Iterable[str], kind: str = "plain") -> str:
    """A table of :func:`head` and :func:`row`; ``kind`` is its class in the style sheet."""
    body = f"<thead>{headings}</thead><tbody>{''.join(rows)}</tbody>"
    whole = f'<table class="{kind}"><caption>{escape(caption)}</caption>{body}</table>'
    return scrollable(whole, caption)


def scrollable(content: str, label: str) -> str:
    """Markup that scrolls by itself, by keyboard too, where the screen is narrower than it."""
    box = f'class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"'
    return f"<div {box}>{content}</div>"
