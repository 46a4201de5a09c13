"""What a reply that brings no document means: come again, when, and in what words to tell it."""

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from rscontrast.errors import CatalogError

if TYPE_CHECKING:  # importing it takes a third of a second, which a local search need not wait
    import requests

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Statuses that may be another one in a moment."""


def status_of(error: CatalogError) -> int | None:
    """Status that the server answered with in the end; None: it gave none."""
    response = getattr(error.__cause__, "response", None)
    return None if response is None else int(response.status_code)


def is_passing(error: "requests.RequestException") -> bool:
    """Whether the same request may be answered in a moment."""
    import requests

    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in RETRIED
    network = (requests.ConnectionError, requests.Timeout)
    return isinstance(error, (*network, requests.exceptions.ContentDecodingError))


def retry_after(error: "requests.RequestException") -> float:
    """Seconds that the server asks to wait; 0 where it does not, or not in a way to be read."""
    response = error.response
    text = response.headers.get("Retry-After", "").strip() if response is not None else ""
    if text.isdecimal():
        return float(text)
    date = _date(text)
    if response is None or date is None:
        return 0.0
    # by the server's own clock, which need not be ours
    now = _date(response.headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (date - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def failed(method: str, url: str, failures: list[Exception], note: str = "") -> CatalogError:
    """Make the error that tells what was asked, how often, and the last cause and the first."""
    tries = f"{len(failures)} tries" if len(failures) > 1 else "1 try"
    last, first = _line(failures[-1]), _line(failures[0])
    begun = f"at first: {first}" if first != last else ""
    causes = "; ".join(text for text in (last, begun, note) if text)
    return CatalogError(f"{method} {url} failed after {tries}: {causes}")


def _line(error: Exception) -> str:
    """One line; around a connection's own error are names of pools that tell a user nothing."""
    inner = getattr(error.args[0] if error.args else None, "reason", None)
    return " ".join(str(inner or error).split()).rstrip(": ") or type(error).__name__


def message(data: bytes) -> str:
    """What an error page says: the field that servers put it into, or its beginning."""
    try:
        page = json.loads(data)
    except ValueError:
        return shorten(data)
    for name in ("description", "detail", "message", "error", "errors"):
        if isinstance(page, dict) and page.get(name):
            return shorten(str(page[name]).encode())
    return shorten(data)


def shorten(data: bytes, most: int = 300) -> str:
    """Beginning of a text, in one line."""
    text = " ".join(data[:most].decode("utf-8", "replace").split())
    return f"{text}..." if len(data) > most else text
