"""FALSE: its determination, its signals, and what it logs."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from rscontrast.losses import false_contrastive, queue_false_contrastive
from rscontrast.losses.contrast import Contrast, batch_contrast
from rscontrast.losses.determination import (
    Determined,
    both_ways,
    determine_above,
    determine_global,
    determine_nearest,
    places,
)
from rscontrast.losses.false import log_calibrated_positive
from tests.losses.cases import make_views
from tests.oracles import contrastive as oracle


def contrast_of(cosine: Tensor, temperature: float = 0.5) -> Contrast:
    """Of a matrix of cosines [2N, 2N]."""
    count = len(cosine)
    partner = torch.arange(count).roll(count // 2).unsqueeze(1)
    negatives = (cosine / temperature).fill_diagonal_(-math.inf)
    positive = negatives.gather(1, partner).squeeze(1)
    negatives.scatter_(1, partner, -math.inf)
    return Contrast(positive, negatives, temperature, None, torch.tensor(count - 2), None)


def listed(found: Determined) -> list[tuple[int, int]]:
    pairs = torch.stack([found.anchor, found.negative], 1)[found.accepted]
    return [(i, j) for i, j in pairs.tolist()]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [-1.0, 0.95])
def test_determined_as_in_the_literal_loops(threshold: float, seed: int) -> None:
    views = make_views(seed=seed)
    contrast, rows = batch_contrast(*views, 0.5), oracle.batch_rows(*views)
    found = determine_global(contrast, threshold, upper=True)
    assert set(listed(found)) == oracle.global_pairs(rows, threshold, 0.5, upper=True)
    nearest = determine_nearest(contrast, threshold)
    assert set(listed(nearest)) == oracle.nearest_pairs(rows, threshold)
    above = determine_above(contrast, threshold, margin=0.4, max_selected=2)
    assert set(listed(above)) == oracle.above_pairs(rows, threshold, 0.4, 2)
    for one in (nearest, above):
        both = listed(both_ways(one, 12))
        assert len(set(both)) == len(both)
        assert set(both) == {*listed(one), *((j, i) for i, j in listed(one))}


def test_blocks_of_rows_are_one_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    contrast = batch_contrast(*make_views(16), 0.5)
    whole = determine_nearest(contrast, -1.0), determine_global(contrast, -1.0, upper=True)
    monkeypatch.setattr("rscontrast.losses.determination.BLOCK", {"cpu": 5 * 32})
    parts = determine_nearest(contrast, -1.0), determine_global(contrast, -1.0, upper=True)
    assert [listed(one) for one in parts] == [listed(one) for one in whole]


def test_signals_add_up_to_all_others() -> None:
    views = make_views()
    contrast, rows = batch_contrast(*views, 0.5), oracle.batch_rows(*views)
    found = determine_above(contrast, 0.5, margin=0.5)
    assert found.accepted.sum() > 4
    weights = dict.fromkeys(listed(found), 0.3)
    negative = [oracle.signals(rows, i, 0.5, weights)[1] for i in range(12)]
    entries = contrast.negatives.flatten()[places(found, contrast)]
    positive = log_calibrated_positive(contrast.positive, entries, found, 0.3).exp()
    everything = contrast.positive.exp() + contrast.negatives.exp().sum(1)
    torch.testing.assert_close(positive + torch.stack(negative), everything)


def test_global_changes_at_most_one_row() -> None:
    contrast = batch_contrast(*make_views(8), 0.5)
    ((row, column),) = listed(determine_global(contrast, -1.0, upper=True))
    assert row < column
    assert column != row + 8
    positive = contrast.positive[row].item() * 0.5
    assert len(listed(determine_global(contrast, positive - 1e-9, upper=True))) == 1
    assert len(listed(determine_global(contrast, positive + 1e-9, upper=True))) == 0


def test_global_compares_exponentials_not_cosines() -> None:
    cosine = torch.eye(4, dtype=torch.float64)
    for (i, j), value in {
        (0, 1): 0.8,
        (0, 2): 0.9,  # positive of 0: cosine gap 0.1, but 6.05 - 4.95 = 1.10 in s
        (0, 3): 0.8,
        (1, 2): -0.3,  # cosine gap 0.3, but 1.00 - 0.55 = 0.45 in s
        (1, 3): 0.0,  # positive of 1
        (2, 3): 0.1,
    }.items():
        cosine[i, j] = cosine[j, i] = value
    assert listed(determine_global(contrast_of(cosine), -1.0, upper=True)) == [(1, 2)]


def test_global_compares_beyond_the_range_of_exp() -> None:
    views = make_views(8)
    exact = batch_contrast(*views, 0.01)
    single = batch_contrast(*(view.float() for view in views), 0.01)
    assert single.positive.exp().isinf().any()
    found = [listed(determine_global(one, -1.0, upper=True)) for one in (exact, single)]
    assert found[0] == found[1]


def test_above_keeps_the_most_similar() -> None:
    contrast = batch_contrast(*make_views(8), 0.5)
    chosen = determine_above(contrast, -1.0, margin=2.0, max_selected=3)
    assert (chosen.anchor[chosen.accepted].bincount() == 3).all()
    everything = determine_above(contrast, -1.0, margin=2.0, max_selected=100)
    assert set(listed(everything)) == {(i, j) for i in range(16) for j in range(16) if (i - j) % 8}
    logits = {pair: contrast.negatives[pair].item() for pair in listed(everything)}
    for i in range(16):
        inside = [logits[pair] for pair in listed(chosen) if pair[0] == i]
        left = [v for pair, v in logits.items() if pair[0] == i and pair not in listed(chosen)]
        assert min(inside) >= max(left)


def test_selection_carries_no_gradient() -> None:
    contrast = batch_contrast(*(view.requires_grad_() for view in make_views()), 0.5)
    for found in (
        determine_global(contrast, -1.0, upper=True),
        determine_nearest(contrast, -1.0),
        determine_above(contrast, -1.0, margin=0.5),
    ):
        assert found.accepted.any()
        assert not any(part.requires_grad for part in found)


def test_a_queue_has_no_upper_triangle() -> None:
    query = torch.eye(3, dtype=torch.float64)[2:]
    queue = torch.tensor([[0.0, 0.1, 1.0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    found = queue_false_contrastive(query, query, queue, select="global").diagnostics
    assert found["false_negative_similarity"] > 0.99


def test_labels_reach_the_diagnostics_only() -> None:
    direction = torch.tensor([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0], [0.1, 0.99]])
    run = partial(false_contrastive, direction, direction, select="nearest")
    without, right = run(), run(labels=torch.tensor([0, 0, 1, 1]))
    wrong = run(labels=torch.tensor([0, 1, 0, 1]))
    assert torch.equal(without.loss, right.loss)
    assert torch.equal(right.loss, wrong.loss)
    assert "false_negative_precision" not in without.diagnostics
    assert right.diagnostics["false_negative_share"] == 1
    assert right.diagnostics["false_negative_similarity"] > 0.99
    # Each anchor has two negatives of its class, and "nearest" takes one of them.
    assert right.diagnostics["false_negative_precision"] == 1
    assert right.diagnostics["false_negative_recall"] == 0.5
    assert wrong.diagnostics["false_negative_precision"] == 0
    assert wrong.diagnostics["false_negative_recall"] == 0


def test_diagnostics_without_a_determined_pair() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    found = false_contrastive(*make_views(), positive_threshold=1.1, labels=labels).diagnostics
    assert found["false_negative_share"] == 0
    assert found["false_negative_recall"] == 0
    assert found["false_negative_similarity"].isnan()
    assert found["false_negative_precision"].isnan()
