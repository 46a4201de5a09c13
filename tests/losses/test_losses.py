"""Every batch-contrastive loss through the same checks, then each against its oracle."""

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rscontrast.errors import InputError
from rscontrast.losses import (
    FALSELoss,
    InfoNCE,
    LossOutput,
    false_contrastive,
    gather_embeddings,
    info_nce,
)
from rscontrast.losses.false import (
    determine_above,
    determine_global,
    determine_nearest,
    log_calibrated_positive,
)
from rscontrast.losses.info_nce import similarity_logits
from tests.oracles import contrastive as oracle

SELECT = ("global", "nearest", "above")


@dataclass(frozen=True)
class Case:
    """A loss, its module with the same arguments, and the symmetry that its rule has."""

    name: str
    function: Callable[..., LossOutput]
    module: Callable[..., nn.Module]
    order_free: bool = True

    def __str__(self) -> str:
        return self.name


def _false_case(select: str, **kwargs: object) -> Case:
    settings = {"select": select, "positive_threshold": -1.0, "confidence": 0.7} | kwargs
    name = "-".join(["false", select, *kwargs])
    function, module = partial(false_contrastive, **settings), partial(FALSELoss, **settings)
    return Case(name, function, module, order_free=select != "global")


CASES = [
    Case("info_nce", info_nce, InfoNCE),
    _false_case("global"),
    _false_case("nearest"),
    _false_case("nearest", symmetric=True),
    _false_case("above", margin=0.5, max_selected=3),
]


def make_views(
    count: int = 6, dim: int = 5, noise: float = 0.3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Two noisy views of ``count`` random embeddings, float64, not normalised."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    second = first + noise * torch.randn(count, dim, generator=generator, dtype=torch.float64)
    return 3 * first, second


def make_cosine(views: tuple[Tensor, Tensor]) -> Tensor:
    return similarity_logits(*views, temperature=1.0).fill_diagonal_(1.0)


def gradients(loss: Callable[..., Tensor], views: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    leaves = [view.detach().clone().requires_grad_() for view in views]
    return torch.autograd.grad(loss(*leaves), leaves)


@pytest.mark.parametrize("case", CASES, ids=str)
class TestEveryLoss:
    def test_returns_scalar_and_detached_diagnostics(self, case: Case) -> None:
        leaves = [view.requires_grad_() for view in make_views()]
        output = case.function(*leaves)
        assert isinstance(output, LossOutput)
        assert output.loss.shape == ()
        assert output.loss.requires_grad
        assert output.diagnostics
        for value in output.diagnostics.values():
            assert value.shape == ()
            assert not value.requires_grad

    def test_module_equals_function(self, case: Case) -> None:
        views = make_views()
        module = case.module(temperature=0.2)
        assert torch.equal(module(*views).loss, case.function(*views, temperature=0.2).loss)
        assert not list(module.parameters())
        assert not list(module.buffers())

    @pytest.mark.parametrize("noise", [0.01, 1.0])
    def test_low_temperature_in_float32(self, case: Case, noise: float) -> None:
        views = make_views(16, 8, noise)
        leaves = [view.float().requires_grad_() for view in views]
        output = case.function(*leaves, temperature=0.01)
        output.loss.backward()
        assert all(leaf.grad.isfinite().all() for leaf in leaves)
        expected = case.function(*[v.double() for v in leaves], temperature=0.01).loss
        torch.testing.assert_close(output.loss.double(), expected, atol=2e-4, rtol=1e-4)

    def test_low_temperature_under_bf16_autocast(self, case: Case) -> None:
        torch.manual_seed(0)
        layer = nn.Linear(8, 8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedding1, embedding2 = layer(torch.randn(16, 8)), layer(torch.randn(16, 8))
            loss = case.function(embedding1, embedding2, temperature=0.01).loss
        assert embedding1.dtype == torch.bfloat16
        assert loss.dtype == torch.float32
        assert torch.equal(loss, case.function(embedding1, embedding2, temperature=0.01).loss)
        loss.backward()
        assert loss.isfinite()
        assert layer.weight.grad.isfinite().all()

    def test_gradcheck(self, case: Case) -> None:
        leaves = tuple(view.requires_grad_() for view in make_views(4, 3))
        assert torch.autograd.gradcheck(lambda a, b: case.function(a, b).loss, leaves)

    def test_order_of_samples_and_views(self, case: Case) -> None:
        view1, view2 = make_views(8)
        order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
        loss = case.function(view1, view2).loss
        permuted = case.function(view1[order], view2[order]).loss
        swapped = case.function(view2, view1).loss
        unchanged = [torch.allclose(loss, other) for other in (permuted, swapped)]
        assert all(unchanged) == case.order_free

    def test_scale_of_embeddings_is_free(self, case: Case) -> None:
        view1, view2 = make_views()
        torch.testing.assert_close(
            case.function(view1, view2).loss, case.function(7 * view1, view2 / 7).loss
        )

    def test_batch_of_two(self, case: Case) -> None:
        views = make_views(2)
        assert case.function(*views).loss.isfinite()
        assert all(
            g.isfinite().all() for g in gradients(lambda a, b: case.function(a, b)[0], views)
        )

    def test_identical_embeddings(self, case: Case) -> None:
        views = (torch.ones(4, 3), torch.ones(4, 3))
        output = case.function(*views, temperature=0.01)
        assert 0 <= output.loss <= math.log(7) + 1e-5
        grads = gradients(lambda a, b: case.function(a, b, temperature=0.01).loss, views)
        assert all(grad.abs().max() < 1e-3 for grad in grads)

    def test_nan_is_not_hidden(self, case: Case) -> None:
        for which in (0, 1):
            views = make_views()
            views[which][2, 1] = math.nan
            assert case.function(*views).loss.isnan()

    @pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
    def test_bad_temperature(self, case: Case, temperature: float) -> None:
        with pytest.raises(InputError, match=r"^temperature: got .*; allowed: a finite number"):
            case.function(*make_views(), temperature=temperature)
        with pytest.raises(InputError, match=r"^temperature: got"):
            case.module(temperature=temperature)

    @pytest.mark.parametrize(
        ("shape1", "shape2", "message"),
        [
            ((4, 3), (4, 2), r"view2: got \(4, 2\); allowed: the shape of view1, \(4, 3\)"),
            ((4, 3), (5, 3), r"view2: got \(5, 3\)"),
            ((1, 3), (1, 3), r"view1: got \(1, 3\); allowed: .*N >= 2"),
            ((4,), (4,), r"view1: got \(4,\)"),
            ((4, 3, 2, 2), (4, 3, 2, 2), r"view1: got \(4, 3, 2, 2\)"),
            ((4, 0), (4, 0), r"view1: got \(4, 0\)"),
        ],
    )
    def test_bad_shapes(
        self, case: Case, shape1: tuple[int, ...], shape2: tuple[int, ...], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            case.function(torch.rand(shape1), torch.rand(shape2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confidence": -0.1}, "confidence: got -0.1; allowed: a number from 0 to 1"),
        ({"confidence": 1.1}, "confidence: got 1.1"),
        ({"confidence": math.nan}, "confidence: got nan"),
        ({"positive_threshold": math.nan}, "positive_threshold: got nan"),
        ({"select": "neerest"}, "select: got 'neerest'; .*did you mean 'nearest'"),
        ({"margin": -0.1}, "margin: got -0.1"),
        ({"max_selected": 0}, "max_selected: got 0"),
    ],
)
def test_false_refuses_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        false_contrastive(*make_views(), **settings)
    with pytest.raises(InputError, match=message):
        FALSELoss(**settings)


def test_false_refuses_labels_of_another_length() -> None:
    with pytest.raises(InputError, match="labels: got"):
        false_contrastive(*make_views(6), labels=torch.zeros(12))


def _assert_same(
    loss: Callable[..., Tensor], expected: Callable[..., Tensor], views: tuple[Tensor, Tensor]
) -> None:
    torch.testing.assert_close(loss(*views), expected(*views))
    torch.testing.assert_close(gradients(loss, views), gradients(expected, views))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_equals_the_double_loop(temperature: float) -> None:
    _assert_same(
        lambda a, b: info_nce(a, b, temperature=temperature).loss,
        lambda a, b: oracle.nt_xent(a, b, temperature),
        make_views(),
    )


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_equals_lightly(temperature: float) -> None:
    # Imported here, so that the spawned ranks, which import this module, need not wait for it.
    from lightly.loss import NTXentLoss

    _assert_same(
        lambda a, b: info_nce(a, b, temperature=temperature).loss,
        NTXentLoss(temperature=temperature),
        make_views(),
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [-1.0, 0.95])
@pytest.mark.parametrize("select", [*SELECT, "symmetric"])
def test_false_equals_the_double_loop(select: str, threshold: float, seed: int) -> None:
    views = make_views(seed=seed)
    cos = oracle.cosines(*views)
    pairs = {
        "global": oracle.global_pairs(cos, threshold, 0.5),
        "nearest": oracle.nearest_pairs(cos, threshold),
        "above": oracle.above_pairs(cos, threshold, 0.4, 2),
    }
    pairs["symmetric"] = pairs["nearest"] | {(j, i) for i, j in pairs["nearest"]}
    settings = {"confidence": 0.6, "positive_threshold": threshold, "margin": 0.4}
    rule = "nearest" if select == "symmetric" else select
    settings |= {"select": rule, "symmetric": select == "symmetric", "max_selected": 2}
    _assert_same(
        lambda a, b: false_contrastive(a, b, **settings).loss,
        lambda a, b: oracle.calibrated(a, b, 0.5, dict.fromkeys(pairs[select], 0.6)),
        views,
    )


@pytest.mark.parametrize("select", SELECT)
@pytest.mark.parametrize(
    "off", [{"confidence": 0.0, "positive_threshold": -1.0}, {"positive_threshold": 1.1}]
)
def test_false_switched_off_is_info_nce(select: str, off: dict[str, float]) -> None:
    _assert_same(
        lambda a, b: false_contrastive(a, b, select=select, margin=0.5, **off).loss,
        lambda a, b: info_nce(a, b).loss,
        make_views(),
    )


@pytest.mark.parametrize("case", CASES[1:], ids=str)
def test_branch_is_alive(case: Case) -> None:
    views = make_views()
    plain, calibrated = info_nce(*views).loss, case.function(*views).loss
    assert calibrated < plain - 1e-3


def test_signals_add_up_to_all_others() -> None:
    views = make_views()
    cosine, logits = make_cosine(views), similarity_logits(*views, temperature=0.5)
    determined = determine_above(cosine, 0.5, margin=0.5)
    assert determined.sum() > 4
    pairs = dict.fromkeys(map(tuple, determined.nonzero().tolist()), 0.3)
    negative = [oracle.signals(oracle.cosines(*views), i, 0.5, pairs)[1] for i in range(12)]
    positive = log_calibrated_positive(logits, determined, 0.3).exp()
    torch.testing.assert_close(positive + torch.stack(negative), logits.exp().sum(1))


def test_global_changes_at_most_one_row() -> None:
    cosine = make_cosine(make_views(8))
    loosest = determine_global(cosine, -1.0, temperature=0.5)
    assert loosest.sum() == 1
    row, column = loosest.nonzero()[0].tolist()
    assert row < column
    assert column != row + 8
    positive = cosine[row, (row + 8) % 16].item()
    assert determine_global(cosine, positive, temperature=0.5).sum() == 1
    assert determine_global(cosine, positive + 1e-9, temperature=0.5).sum() == 0


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
    assert determine_global(cosine, -1.0, temperature=0.5).nonzero().tolist() == [[1, 2]]


def test_global_compares_beyond_the_range_of_exp() -> None:
    cosine = make_cosine(make_views(8)).float()
    exact = determine_global(cosine.double(), -1.0, temperature=0.01)
    assert torch.equal(determine_global(cosine, -1.0, temperature=0.01), exact)
    assert torch.exp(cosine / 0.01).isinf().any()


def test_above_keeps_the_most_similar() -> None:
    cosine = make_cosine(make_views(8))
    chosen = determine_above(cosine, -1.0, margin=2.0, max_selected=3)
    assert (chosen.sum(1) == 3).all()
    everything = determine_above(cosine, -1.0, margin=2.0, max_selected=100)
    assert (everything.sum(1) == 14).all()
    itself = torch.eye(16, dtype=torch.bool)
    assert not (everything & (itself | itself.roll(8, 1))).any()
    left_out = cosine.masked_fill(~everything | chosen, -2.0).amax(1)
    assert (cosine.masked_fill(~chosen, 2.0).amin(1) >= left_out).all()


def test_selection_carries_no_gradient() -> None:
    cosine = make_cosine(make_views()).requires_grad_()
    chosen = (
        determine_global(cosine, -1.0, temperature=0.5),
        determine_nearest(cosine, -1.0),
        determine_above(cosine, -1.0, margin=0.5),
    )
    for selection in chosen:
        assert selection.dtype == torch.bool
        assert selection.any()
        assert selection.grad_fn is None
        assert not selection.requires_grad


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


DISTRIBUTED: dict[str, Callable[..., LossOutput]] = {
    "info_nce": info_nce,
    "nearest": partial(false_contrastive, select="nearest", positive_threshold=0.5),
    "global": partial(false_contrastive, select="global", positive_threshold=-1.0),
}


def _encoder() -> nn.Module:
    torch.manual_seed(3)
    return nn.Linear(5, 4).double()


def _step(encoder: nn.Module, name: str, views: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    encoder.zero_grad()
    view1, view2 = encoder(torch.cat(views)).chunk(2)
    loss = DISTRIBUTED[name](gather_embeddings(view1), gather_embeddings(view2)).loss
    loss.backward()
    grads = {key.removeprefix("module."): p.grad for key, p in encoder.named_parameters()}
    return {"loss": loss.detach()} | {key: grad.clone() for key, grad in grads.items()}


def _rank(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    mine = [view[4 * rank : 4 * rank + 4] for view in make_views(8)]
    encoder = DistributedDataParallel(_encoder())
    torch.save({name: _step(encoder, name, mine) for name in DISTRIBUTED}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    expected = {name: _step(_encoder(), name, make_views(8)) for name in DISTRIBUTED}
    assert expected["nearest"]["loss"] < expected["info_nce"]["loss"]
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected)


def test_gather_without_ranks_is_the_tensor_itself() -> None:
    z = torch.rand(3, 2)
    assert gather_embeddings(z) is z
