"""Operations by name, as configuration files give them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rscontrast.augment.atmosphere import Haze, Shadow, Sun, ThinCloud
from rscontrast.augment.blur import Blur, Coarsen
from rscontrast.augment.cutout import RegionCutout
from rscontrast.augment.jitter import Grayscale, Jitter, Solarize
from rscontrast.augment.noise import Noise, Speckle
from rscontrast.augment.operations import Operation
from rscontrast.augment.spectral import BandDropout, Gain
from rscontrast.errors import InputError, choose

_KINDS = (
    Gain, BandDropout, Haze, Sun, ThinCloud, Shadow, Noise, Speckle, Blur, Coarsen, Jitter,
    Grayscale, Solarize, RegionCutout,
)  # fmt: skip

OPERATIONS: Mapping[str, type[Operation]] = MappingProxyType({k.__name__: k for k in _KINDS})


def named(operations: Mapping[str, Mapping[str, Any] | None]) -> tuple[Operation, ...]:
    """Make operations.

    Args:
        operations: a name of :data:`OPERATIONS` and its fields, by which it differs from its
            defaults; ranges as lists of two. In the order given.

    Raises:
        InputError: an unknown name or field, or a value out of range.
    """
    if not isinstance(operations, Mapping):
        raise InputError("operations", operations, "names, each with its fields")
    made = []
    for name, fields in operations.items():
        kind = OPERATIONS[choose("operations", name, OPERATIONS)]
        if not isinstance(fields, Mapping | None):
            raise InputError(f"operations {name}", fields, "fields and their values, or nothing")
        given = {key: _frozen(value) for key, value in (fields or {}).items()}
        try:
            made.append(kind(**given))
        except TypeError as error:
            raise InputError("operations", name, f"its fields ({error})") from error
    return tuple(made)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
