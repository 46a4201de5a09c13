"""GloFND: thresholds of single samples, and their step."""

import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.losses import BATCH, GloFNDLoss, QueueGloFNDLoss, glofnd, queue_glofnd
from rscontrast.losses.contrast import batch_contrast, queue_contrast
from rscontrast.losses.glofnd import step_thresholds
from rscontrast.tasks.chosen import chosen_loss
from tests.losses.cases import BATCH_CASES, QUEUE_CASES, Case, make_views
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


@pytest.mark.parametrize("case", [BATCH_CASES[0], QUEUE_CASES[0]], ids=str)
def test_out_of_training_no_threshold_is_read_or_moved(case: Case) -> None:
    """Of another data set's numbers: it is the plain loss."""
    module = (QueueGloFNDLoss if case.queue else GloFNDLoss)(6, temperature=0.5).eval()
    module.thresholds.fill_(-0.5)
    found = module(*case.inputs(), index=torch.arange(6) + 90)
    torch.testing.assert_close(found.loss, case.loss(*case.inputs()))
    assert found.diagnostics["false_negative_share"] == 0
    assert (module.thresholds == -0.5).all()


@pytest.mark.parametrize("queue", [False, True])
def test_a_sample_that_comes_twice_takes_the_mean(queue: bool) -> None:
    inputs, index = QUEUE_CASES[0].inputs(), torch.tensor([4, 1, 4, 0, 2, 3])
    module = QueueGloFNDLoss(6, 0.5, 0.3, 0.8) if queue else GloFNDLoss(6, 0.5, 0.3, 0.8)
    module.thresholds.fill_(0.2)
    contrast = queue_contrast(*inputs, 0.5) if queue else batch_contrast(*inputs[:2], 0.5)
    single = step_thresholds(contrast, torch.full((6,), 0.2), 0.3, 0.8)
    assert single[0] != single[2]
    module(*(inputs if queue else inputs[:2]), index=index)
    expected = torch.stack(
        [single[3], single[1], single[4], single[5], (single[0] + single[2]) / 2]
    )
    torch.testing.assert_close(module.thresholds[:5], expected)
    assert module.thresholds[5] == 0.2


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.arange(5), r"^index: got 'torch.int64 \(5,\)'; allowed: int64 \(6,\)"),
        (torch.arange(3), r"^index: got 'torch.int64 \(3,\)'"),
        (torch.arange(12), r"^index: got 'torch.int64 \(12,\)'"),
        (torch.arange(6).unsqueeze(0), r"^index: got 'torch.int64 \(1, 6\)'"),
        (torch.arange(6.0), r"^index: got 'torch.float32 \(6,\)'"),
        (torch.ones(6, dtype=torch.bool), r"^index: got 'torch.bool \(6,\)'"),
        (torch.arange(6) + 1, r"^index: got \[1, 6\]; allowed: 0 to 5: size is the number of"),
        (torch.arange(6) - 1, r"^index: got \[-1, 4\]; allowed: 0 to 5"),
    ],
)
def test_bad_index_moves_nothing(queue: bool, index: torch.Tensor, message: str) -> None:
    module = QueueGloFNDLoss(6) if queue else GloFNDLoss(6)
    inputs = QUEUE_CASES[0].inputs()
    with pytest.raises(InputError, match=message):
        module(*(inputs if queue else inputs[:2]), index=index)
    assert (module.thresholds == 1).all()


def test_without_a_size_it_is_told_what_is_missing() -> None:
    with pytest.raises(InputError, match=r"loss_args: got .*missing.*'size'"):
        chosen_loss(BATCH, "glofnd", 0.5, None)
