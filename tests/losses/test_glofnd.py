"""GloFND: thresholds of single samples, and their step."""

import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.losses import GloFNDLoss, QueueGloFNDLoss, glofnd, queue_glofnd
from rscontrast.losses.contrast import batch_contrast, queue_contrast
from rscontrast.losses.glofnd import step_thresholds
from tests.losses.cases import QUEUE_CASES, make_views
from tests.losses.test_losses import assert_same
from tests.oracles import contrastive as oracle

THRESHOLDS = [0.9, 0.5, 0.1, -0.2, 0.3, -1.0]


def test_each_sample_has_its_threshold() -> None:
    tensor = torch.tensor(THRESHOLDS)
    views, inputs = make_views(), QUEUE_CASES[0].inputs()
    rows = oracle.batch_rows(*views)
    expected = oracle.average(oracle.glofnd(rows, 0.5, THRESHOLDS * 2))
    torch.testing.assert_close(glofnd(*views, tensor).loss, expected)
    assert_same(
        QUEUE_CASES[0],
        lambda *given: queue_glofnd(*given, tensor, temperature=0.5).loss,
        lambda *given: oracle.average(oracle.glofnd(oracle.queue_rows(*given), 0.5, THRESHOLDS)),
        inputs,
    )


def test_step_as_in_the_literal_loop() -> None:
    tensor = torch.tensor(THRESHOLDS, dtype=torch.float64)
    views, inputs = make_views(), QUEUE_CASES[0].inputs()
    for contrast, rows in (
        (batch_contrast(*views, 0.5), oracle.batch_rows(*views)),
        (queue_contrast(*inputs, 0.07), oracle.queue_rows(*inputs)),
    ):
        moved = step_thresholds(contrast, tensor, 0.3, 0.8).tolist()
        assert moved == pytest.approx(oracle.stepped(rows, THRESHOLDS, 0.3, 0.8))
        assert len(set(moved)) > 4


@pytest.mark.parametrize("queue", [False, True])
def test_thresholds_reach_the_quantile(queue: bool) -> None:
    torch.manual_seed(0)
    module = QueueGloFNDLoss(20, 0.5, 0.2, 0.05) if queue else GloFNDLoss(20, 0.5, 0.2, 0.05)
    views = make_views(16, 8, noise=0.0)
    inputs = (*views, torch.randn(64, 8)) if queue else views
    index = torch.arange(18, 2, -1)
    for _ in range(300):
        shown = module(*inputs, index=index).diagnostics
    contrast = queue_contrast(*inputs, 0.5) if queue else batch_contrast(*inputs, 0.5)
    limits = module.thresholds[index].repeat(1 if queue else 2).unsqueeze(1)
    found = (0.5 * contrast.negatives > limits).sum(1) / contrast.count
    assert (found - 0.2).abs().max() < 0.15
    assert (found - 0.2).abs().mean() < 0.05
    assert shown["threshold"].item() == pytest.approx(module.thresholds[index].mean().item())
    assert (module.thresholds[[0, 1, 2, 19]] == 1).all()


def test_thresholds_move_in_training_only_and_not_of_removed_samples() -> None:
    module, views = GloFNDLoss(6, false_share=0.3), make_views()
    module.eval()
    module(*views, index=torch.arange(6))
    assert (module.thresholds == 1).all()
    module.train()
    weight = torch.tensor([1.0, 0, 1, 1, 1, 1])
    module(*views, index=torch.arange(6), weight=weight)
    assert module.thresholds.tolist() == pytest.approx([0.7, 1, 0.7, 0.7, 0.7, 0.7])
    again = GloFNDLoss(6)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.thresholds, module.thresholds)


@pytest.mark.parametrize("module", [GloFNDLoss, QueueGloFNDLoss])
def test_bad_settings(module: type[GloFNDLoss | QueueGloFNDLoss]) -> None:
    for settings, message in (
        ({"size": 0}, "size: got 0"),
        ({"size": 4, "false_share": 1.2}, "false_share: got 1.2"),
        ({"size": 4, "rate": 0.0}, "rate: got 0.0"),
    ):
        with pytest.raises(InputError, match=message):
            module(**settings)


def test_bad_index() -> None:
    with pytest.raises(InputError, match=r"index: got \(5,\)"):
        GloFNDLoss(6)(*make_views(), index=torch.arange(5))
