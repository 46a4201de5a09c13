"""Engines by name."""

from importlib import import_module
from typing import Any

from rscontrast.errors import choose
from rscontrast.mapping.engine import Engine

ENGINES = {
    "local": "rscontrast.mapping.engines.local:Local",
    "dask": "rscontrast.mapping.engines.dask:Dask",
}
"""Where each is, by its name; imported when it is asked for."""


def make_engine(name: str, **arguments: Any) -> Engine:
    """Make an engine.

    Args:
        name: one of :data:`ENGINES`.
        arguments: of :class:`rscontrast.mapping.engines.local.Local` or
            :class:`rscontrast.mapping.engines.dask.Dask`.

    Raises:
        InputError: an unknown name, or an argument out of range.
    """
    module, _, kind = ENGINES[choose("engine", name, ENGINES)].partition(":")
    engine: Engine = getattr(import_module(module), kind)(**arguments)
    return engine
