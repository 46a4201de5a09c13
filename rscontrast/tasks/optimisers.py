"""Optimisers by name, what they leave undecayed, and the rate of each step."""

import math

from timm.optim.lars import Lars
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import SGD, AdamW, Optimizer

from rscontrast.errors import InputError, choose

OPTIMIZERS = ("adamw", "lars", "sgd")
WARMUP = 0.1
"""Share of all steps over which the learning rate rises, where nothing else is said."""
TRUST = 1e-3
"""Trust coefficient of LARS."""
LISTED = ("cls_token", "dist_token", "pos_embed", "reg_token", "relative_position_bias_table")
"""Names in timm of what its transformers list as undecayed; its feature wrappers lose the list."""
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def make_optimizer(
    name: str, module: nn.Module, lr: float, weight_decay: float, momentum: float = 0.9
) -> Optimizer:
    """Make an optimiser of what is trained in a module; biases and norms are not decayed.

    Args:
        name: "adamw"; "sgd" (with momentum, not Nesterov's); or "lars", which adapts the rate of
            each decayed weight to its norm by the trust coefficient 1e-3 (arXiv 1708.03888), and
            leaves biases and norms as under SGD.
        module: what is trained, where a parameter asks for a gradient.
        lr: peak learning rate.
        weight_decay: of the decayed.
        momentum: of SGD and LARS, 0 to below 1.

    Raises:
        InputError: an unknown name or a value out of range.
    """
    check_optimizer(name, lr, weight_decay, momentum)
    decayed, plain = parameter_groups(module)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if name == "adamw":
        return AdamW(groups, lr=lr)
    if name == "sgd":
        return SGD(groups, lr=lr, momentum=momentum)
    # Without decay timm's class adapts nothing unless it is told to.
    groups[0]["always_adapt"] = True
    made: Optimizer = Lars(groups, lr=lr, momentum=momentum, trust_coeff=TRUST)
    return made


def check_optimizer(name: str, lr: float, weight_decay: float, momentum: float) -> None:
    """Refuse what no optimiser takes.

    Raises:
        InputError: an unknown name or a value out of range.
    """
    choose("optimizer", name, OPTIMIZERS)
    if not 0 < lr < math.inf:
        raise InputError("lr", lr, "a finite number above 0")
    if not 0 <= weight_decay < math.inf:
        raise InputError("weight_decay", weight_decay, "a finite number of 0 or more")
    if not 0 <= momentum < 1:
        raise InputError("momentum", momentum, "0 to below 1")


def parameter_groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What is trained, as (decayed, not decayed).

    Not decayed are vectors and numbers (biases, norms, scales of layers), all of a norm, and what
    a timm model lists itself: position embeddings, class tokens.
    """
    kept = {id(p) for name, p in module.named_parameters() if name.split(".")[-1] in LISTED}
    for part in module.modules():
        if isinstance(part, NORMS):
            kept |= {id(p) for p in part.parameters()}
        listed = getattr(part, "no_weight_decay", None)
        if callable(listed):
            named = dict(part.named_parameters())
            kept |= {id(named[name]) for name in listed() if name in named}
    trained = [p for p in module.parameters() if p.requires_grad]
    plain = [p.ndim <= 1 or id(p) in kept for p in trained]
    return (
        [p for p, is_plain in zip(trained, plain, strict=True) if not is_plain],
        [p for p, is_plain in zip(trained, plain, strict=True) if is_plain],
    )


def warmup_cosine(step: int, total: int, warmup: float = WARMUP) -> float:
    """Factor on the learning rate at ``step`` of ``total``: linear to 1, then a cosine to 0.

    Args:
        step: from 0.
        total: steps of the whole run.
        warmup: share of all steps if below 1, else a number of steps.
    """
    rise = warmup_steps(total, warmup)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise))))


def warmup_steps(total: int, warmup: float) -> int:
    """Number of steps over which the rate rises; 1 or more where ``warmup`` is not 0.

    Raises:
        InputError: below 0, not a number, or a part of a step.
    """
    if not 0 <= warmup < math.inf or (warmup > 1 and warmup != int(warmup)):
        raise InputError("warmup", warmup, "a share from 0 to below 1, or a whole number of steps")
    if warmup == 0:
        return 0
    return max(1, round(warmup * total)) if warmup < 1 else int(warmup)
