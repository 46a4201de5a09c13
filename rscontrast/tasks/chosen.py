"""A loss by its name and arguments."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from rscontrast.errors import InputError, choose


def chosen_loss(
    family: Mapping[str, type[nn.Module]],
    name: str,
    temperature: float,
    arguments: Mapping[str, Any] | None,
) -> nn.Module:
    """Build a loss.

    Args:
        family: name -> class, see :mod:`rscontrast.losses.family`.
        name: one of them.
        temperature: that all of them take.
        arguments: further ones.

    Raises:
        InputError: an unknown name, an argument that the loss does not have, or out of range.
    """
    made = family[choose("loss", name, family)]
    given = dict(arguments or {})
    try:
        return made(**{"temperature": temperature, **given})
    except TypeError as error:
        raise InputError("loss_args", given, f"arguments of {made.__name__} ({error})") from error
