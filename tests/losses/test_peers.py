"""Beside lightly's NTXentLoss: equal where it is right, closer where it is not."""

import pytest
import torch
from lightly.loss import NTXentLoss

from rscontrast.losses import info_nce, queue_info_nce
from tests.losses.cases import BATCH_CASES, QUEUE_CASES, make_views
from tests.losses.test_losses import assert_same


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_equals_lightly(temperature: float) -> None:
    assert_same(
        BATCH_CASES[0],
        lambda a, b: info_nce(a, b, temperature=temperature).loss,
        NTXentLoss(temperature=temperature),
        make_views(),
    )


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_queue_info_nce_equals_lightly(temperature: float) -> None:
    def lightly(query: torch.Tensor, key: torch.Tensor, queue: torch.Tensor) -> torch.Tensor:
        loss = NTXentLoss(temperature=temperature, memory_bank_size=queue.shape)
        loss.memory_bank.bank = torch.nn.functional.normalize(queue, dim=1)
        return loss(query, key)

    assert_same(
        QUEUE_CASES[0],
        lambda *given: queue_info_nce(*given, temperature=temperature).loss,
        lightly,
        QUEUE_CASES[0].inputs(),
    )


def test_autocast_costs_lightly_the_low_temperature_and_not_ours() -> None:
    views = [view.bfloat16() for view in make_views(64, 16, 1.0)]
    exact = info_nce(*(view.double() for view in views), temperature=0.01).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = info_nce(*views, temperature=0.01).loss
        theirs = NTXentLoss(temperature=0.01)(*views)
    assert abs(ours - exact) < 1e-4 * exact
    assert abs(theirs - exact) > 1e-3 * exact
