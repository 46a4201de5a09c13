"""Access to files behind signatures and tokens, made when a file is read and never before.

A signer is frozen and knows no secret, so it travels to worker processes with what is to be read.
"""

import math
import os
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from rscontrast.errors import AssetError


@dataclass(frozen=True)
class Signed:
    """What opens a file now."""

    href: str
    """Path or URL, with its signature."""
    until: float = math.inf
    """Unix time from which it must be signed anew, a little before the signature expires."""
    options: tuple[tuple[str, str], ...] = ()
    """GDAL options that hold while the file is opened and read."""


class Signer(Protocol):
    """How files are signed: hashable and picklable; a frozen dataclass is both."""

    @property
    def remedy(self) -> str:
        """What to do when access is refused although the file was signed anew."""

    def sign(self, href: str, *, refused: Signed | None = None) -> Signed:
        """Sign one file.

        Args:
            href: unsigned path or URL; one that needs no signature comes back as it is.
            refused: what was made before and did not open the file; not to be given again.

        Raises:
            AssetError: no signature is to be had; the message says what to do.
        """


@dataclass(frozen=True)
class SharedAccessSigner:
    """Azure's shared access signatures, from a service that gives one a container.

    ``GET {endpoint}/{account}/{container}`` answers ``{"token": ..., "msft:expiry": ...}``, as
    that of the Planetary Computer does.
    """

    endpoint: str
    """URL of the service."""
    domain: str = ".blob.core.windows.net"
    """Files on hosts ``{account}{domain}`` are signed; others are left as they are."""
    margin: float = 60.0
    """Seconds before its expiry at which a signature counts as expired."""

    @property
    def remedy(self) -> str:
        """See :class:`Signer`."""
        return f"the signatures of {self.endpoint} are not accepted: check the provider's endpoint"

    def sign(self, href: str, *, refused: Signed | None = None) -> Signed:
        """See :class:`Signer`; a signature that the link bears already is replaced."""
        parts = urlsplit(href)
        if not parts.netloc.endswith(self.domain):
            return Signed(href)
        account = parts.netloc.removesuffix(self.domain)
        container = parts.path.lstrip("/").partition("/")[0]
        token, until = self._token(f"{self.endpoint}/{account}/{container}", href, refused)
        return Signed(_with_query(href, token), until)

    def _token(self, url: str, href: str, refused: Signed | None) -> tuple[str, float]:
        with _tokens.lock:
            token, until = _tokens.known.get(url, ("", 0.0))
            used_up = refused is not None and refused.href == _with_query(href, token)
            if used_up or until <= time.time():
                token, until = _tokens.known[url] = self._fetch(url)
            return token, until

    def _fetch(self, url: str) -> tuple[str, float]:
        from rscontrast.stac.sources.http import Http

        answer: Any = Http().json(url)
        try:
            expiry = datetime.fromisoformat(answer["msft:expiry"])
            return str(answer["token"]), expiry.timestamp() - self.margin
        except (TypeError, KeyError, ValueError) as error:
            text = f"{url}: answers no token with its msft:expiry ({answer!r}); {self.remedy}"
            raise AssetError(text) from error


class _Tokens:
    """Tokens by the URL that gave them, shared by the threads of a process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[str, tuple[str, float]] = {}

    def renew_lock(self) -> None:
        # Another thread may have held it when the process was forked.
        self.lock = threading.Lock()


_tokens = _Tokens()
os.register_at_fork(after_in_child=_tokens.renew_lock)


def _with_query(href: str, query: str) -> str:
    return urlunsplit(urlsplit(href)._replace(query=query))


@dataclass(frozen=True)
class BearerSigner:
    """A personal token in an environment variable, sent as a header."""

    variable: str
    """The environment variable."""
    domain: str
    """Files on hosts that end so need the token; others are left as they are."""
    where: str
    """URL where one gets a token."""

    @property
    def remedy(self) -> str:
        """See :class:`Signer`."""
        return f"get a token at {self.where} and set the environment variable {self.variable}"

    def sign(self, href: str, *, refused: Signed | None = None) -> Signed:
        """See :class:`Signer`; the variable is read anew each time."""
        if not urlsplit(href).netloc.endswith(self.domain):
            return Signed(href)
        token = os.environ.get(self.variable)
        if not token:
            raise AssetError(f"{self.variable} is not set: {self.remedy}")
        return Signed(href, options=(("GDAL_HTTP_HEADERS", f"Authorization: Bearer {token}"),))


@dataclass(frozen=True)
class RequesterPays:
    """Buckets whose readers pay: ``s3://`` links, opened with the reader's own AWS account."""

    @property
    def remedy(self) -> str:
        """See :class:`Signer`."""
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; you pay for what is read"

    def sign(self, href: str, *, refused: Signed | None = None) -> Signed:
        """See :class:`Signer`."""
        pays = href.startswith("s3://")
        return Signed(href, options=(("AWS_REQUEST_PAYER", "requester"),) if pays else ())
