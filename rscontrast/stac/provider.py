"""Providers by name: built in, or anybody's as ``package.module:NAME``."""

import importlib

from rscontrast.errors import InputError, choose
from rscontrast.stac.product import OffsetRule as OffsetRule
from rscontrast.stac.product import Product as Product
from rscontrast.stac.product import Provider as Provider
from rscontrast.stac.providers.generic import PROVIDER
from rscontrast.stac.source import BandSource as BandSource
from rscontrast.stac.source import MaskRule as MaskRule
from rscontrast.stac.source import MaskSource as MaskSource

__all__ = [
    "GENERIC",
    "PROVIDERS",
    "BandSource",
    "MaskRule",
    "MaskSource",
    "OffsetRule",
    "Product",
    "Provider",
    "read_provider",
]

GENERIC = PROVIDER
"""Any catalog that follows STAC's common metadata."""

PROVIDERS = {
    "earth-search": "rscontrast.stac.providers.earth_search:PROVIDER",
    "planetary-computer": "rscontrast.stac.providers.planetary_computer:PROVIDER",
    "cmr": "rscontrast.stac.providers.cmr:PROVIDER",
    "maxar": "rscontrast.stac.providers.maxar:PROVIDER",
    "generic": "rscontrast.stac.providers.generic:PROVIDER",
}
"""Where each built-in provider is defined, by its name."""


def read_provider(provider: str | Provider) -> Provider:
    """Find a provider.

    Args:
        provider: one of :data:`PROVIDERS`, ``"package.module:NAME"`` of anybody else's, or one.

    Raises:
        InputError: no provider is there; says what is missing.
    """
    if isinstance(provider, Provider):
        return provider
    if not isinstance(provider, str):
        raise InputError("provider", provider, "a name, module:NAME or a Provider")
    if ":" not in provider:
        return _imported(PROVIDERS[choose("provider", provider, PROVIDERS)])
    return _imported(provider)


def _imported(where: str) -> Provider:
    module, _, name = where.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError("provider", where, f"module:NAME of a Provider ({error})") from error
    if not isinstance(found, Provider):
        raise InputError("provider", where, f"a Provider, not a {type(found).__name__}")
    return found
