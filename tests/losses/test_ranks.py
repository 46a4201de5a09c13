"""Two processes equal one, in value and gradient, for every image-level loss; one spawn for all."""

import os
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rscontrast.errors import TrainingError
from rscontrast.losses import GloFNDLoss, gather_embeddings
from tests.losses.cases import CASES, Case, make_views

WEIGHT = torch.tensor([1, 0.5, 1, 0, 2, 1, 0, 1]).double()
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])
UNEVEN = (
    [
        torch.ones(3, 2),
        torch.ones(3, 2, requires_grad=True),
        torch.ones(2, 3),
        torch.ones(2).long(),
    ],
    [
        torch.ones(2, 2),
        torch.ones(2, 2, requires_grad=True),
        torch.ones(2, 2),
        torch.ones(3).long(),
    ],
)
"""Of each rank: what is of another shape on the other one."""
THREE = torch.float64, torch.int64, torch.bool


def _encoder() -> nn.Module:
    torch.manual_seed(3)
    return nn.Linear(5, 4).double()


def _inputs(case: Case, mine: slice) -> tuple[Tensor, ...]:
    views, queue = make_views(8), make_views(9, 4, seed=5)[:1]
    return (*(view[mine] for view in views), *(queue if case.queue else ()))


def _step(encoder: nn.Module, case: Case, mine: slice) -> dict[str, Tensor]:
    encoder.zero_grad()
    first, second, *queue = _inputs(case, mine)
    embeddings = encoder(torch.cat([first, second])).chunk(2)
    samples = [gather_embeddings(one) for one in embeddings]
    weight, labels = gather_embeddings(WEIGHT[mine]), gather_embeddings(LABELS[mine])
    loss, diagnostics = case.function(*samples, *queue, weight=weight, labels=labels)
    loss.backward()
    grads = {key.removeprefix("module."): p.grad for key, p in encoder.named_parameters()}
    return {"loss": loss.detach()} | {key: g.clone() for key, g in grads.items()} | diagnostics


def _thresholds(mine: slice) -> dict[str, Tensor]:
    module, views = GloFNDLoss(10, false_share=0.2), make_views(8)
    for _ in range(4):
        index = gather_embeddings(torch.arange(9, 1, -1)[mine])
        module(*(gather_embeddings(view[mine]) for view in views), index=index)
    return {"thresholds": module.thresholds}


def _gathered(mine: slice) -> dict[str, Tensor]:
    whole = torch.tensor([0, 1, 2, 0, 4, 0, 6, 7])
    return {str(dtype): gather_embeddings(whole[mine].to(dtype)) for dtype in THREE}


def _all(encoder: nn.Module, mine: slice) -> dict[str, dict[str, Tensor]]:
    found = {str(case): _step(encoder, case, mine) for case in CASES}
    return found | {"thresholds": _thresholds(mine), "gathered": _gathered(mine)}


def _refused(z: Tensor) -> str:
    try:
        gather_embeddings(z)
    except TrainingError as error:
        return str(error)
    return "gathered"


def _rank(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    encoder = DistributedDataParallel(_encoder())
    found = _all(encoder, slice(4 * rank, 4 * rank + 4))
    torch.save(found | {"uneven": [_refused(z) for z in UNEVEN[rank]]}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", [*map(str, CASES), "thresholds", "gathered"])
def test_two_ranks_equal_one_process(ranks: list[dict[str, dict[str, Tensor]]], name: str) -> None:
    expected = _all(_encoder(), slice(None))[name]
    for found in ranks:
        torch.testing.assert_close(found[name], expected, equal_nan=True)


def test_ranks_of_other_sizes_are_refused_on_all(ranks: list[dict[str, list[str]]]) -> None:
    for found in ranks:
        first, *rest = found["uneven"]
        assert first.startswith("samples of the ranks: 3 (6 numbers), 2 (4 numbers); all ranks")
        assert all("drop the last one" in message for message in rest)


def test_gather_without_ranks_is_the_tensor_itself() -> None:
    z = torch.rand(3, 2)
    assert gather_embeddings(z) is z
