"""Gradient checkpointing: activations within a block are computed again, not kept."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from rscontrast.errors import InputError

CONTAINERS = (nn.Sequential, nn.ModuleList)


def recompute_blocks(encoder: nn.Module) -> list[nn.Module]:
    """Make an encoder keep only what goes into its blocks; the backward pass runs each again.

    Gradients, running statistics of batch norms and the keys of the state_dict stay as they were:
    a norm does not learn from the second run.

    Args:
        encoder: any; its blocks are the modules of several layers next below it.

    Returns:
        the blocks.

    Raises:
        InputError: it has none.
    """
    blocks = [block for block in _blocks(encoder) if "forward" not in vars(block)]
    if not blocks:
        allowed = "False: this encoder has no blocks that could be run again"
        raise InputError("gradient_checkpointing", type(encoder).__name__, allowed)
    for block in blocks:
        # On the instance, so that no wrapper changes the keys; copied along by deepcopy.
        vars(block)["forward"] = partial(_recomputed, block)
    return blocks


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Modules of several layers, looked for in containers and in ``model`` of timm's wrappers."""
    inner = getattr(module, "model", None)
    for child in (inner if isinstance(inner, nn.Module) else module).children():
        if isinstance(child, CONTAINERS):
            found = list(_blocks(child))
            yield from found or ([child] if _is_block(child) else [])
        elif isinstance(getattr(child, "model", None), nn.Module):
            yield from _blocks(child)
        elif _is_block(child):
            yield child


def _is_block(module: nn.Module) -> bool:
    layers = [part for part in module.modules() if not list(part.children())]
    weights = [part for part in layers if list(part.parameters())]
    return len(weights) > 1 and not isinstance(module, nn.ModuleList)


def _recomputed(block: nn.Module, *inputs: Any, **named: Any) -> Any:
    forward = type(block).forward
    return checkpoint(
        forward, block, *inputs, use_reentrant=False, context_fn=partial(_contexts, block), **named
    )


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _norms_at_rest(block)


@contextmanager
def _norms_at_rest(block: nn.Module) -> Iterator[None]:
    """Let batch norms count on copies of their statistics, which are thrown away."""
    norms = [part for part in block.modules() if isinstance(part, _NormBase)]
    kept = [dict(norm._buffers) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        norm._buffers.update({k: None if v is None else v.clone() for k, v in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
