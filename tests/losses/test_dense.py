"""Every dense loss through the same checks, then each against its oracle."""

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
    Decoupling,
    DenseInfoNCE,
    Depositioning,
    LossOutput,
    PixProLoss,
    combine,
    decoupling,
    dense_info_nce,
    depositioning,
    depth_positives,
    mask_positives,
    matched_positives,
    pixpro,
    rank_share,
)
from rscontrast.losses.cells import unit
from rscontrast.models import PixelPropagation
from tests.oracles import dense as oracle

CELLS = (2, 3)


@dataclass(frozen=True)
class Case:
    """A loss as f(query, key, positives, weight=, query_valid=, key_valid=), and its module."""

    name: str
    function: Callable[..., LossOutput]
    module: Callable[..., LossOutput]

    def __str__(self) -> str:
        return self.name


def make_maps(
    count: int = 4, dim: int = 5, cells: tuple[int, int] = CELLS, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Feature maps of two views, float64, and random positives with at least one a sample."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(count, dim, *cells, generator=generator, dtype=torch.float64)
    key = query + 0.3 * torch.randn(query.shape, generator=generator, dtype=torch.float64)
    size = cells[0] * cells[1]
    positives = torch.rand(count, size, size, generator=generator) < 0.3
    positives[:, 0, 0] = True
    return 3 * query, key, positives


QUEUE = torch.randn(7, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def _queued(function: Callable[..., LossOutput]) -> Callable[..., LossOutput]:
    def run(query: Tensor, key: Tensor, positives: Tensor, **kwargs: object) -> LossOutput:
        return function(query, key, positives, QUEUE[:, : query.shape[1]], **kwargs)

    return run


def _kept(function: Callable[..., LossOutput]) -> Callable[..., LossOutput]:
    """Decoupling in the shape of the others: the diagonal of the positives says what was kept."""

    def run(query: Tensor, key: Tensor, positives: Tensor, **kwargs: object) -> LossOutput:
        kept = positives.diagonal(dim1=1, dim2=2).reshape(len(query), *query.shape[2:]) > 0
        return function(query, key, kept, **kwargs)

    return run


def _same(function: Callable[..., LossOutput]) -> Callable[..., LossOutput]:
    def run(query: Tensor, key: Tensor, positives: Tensor, **kwargs: object) -> LossOutput:
        return function(query, key, **kwargs)

    return run


COLD = partial(dense_info_nce, temperature=0.01)
CASES = [
    Case("pixpro", pixpro, PixProLoss()),
    Case("dense_info_nce", dense_info_nce, DenseInfoNCE()),
    Case("dense_info_nce-queue", _queued(dense_info_nce), _queued(DenseInfoNCE())),
    Case("dense_info_nce-cold", COLD, DenseInfoNCE(0.01)),
    Case("dense_info_nce-queue-cold", _queued(COLD), _queued(DenseInfoNCE(0.01))),
    Case("decoupling", _kept(decoupling), _kept(Decoupling())),
    Case("decoupling-cold", _kept(partial(decoupling, dense=COLD)), _kept(Decoupling(COLD))),
    Case("depositioning", _same(depositioning), _same(Depositioning())),
    Case("depositioning-cold", _same(partial(depositioning, dense=COLD)),
         _same(Depositioning(COLD))),
]  # fmt: skip


def gradient(loss: Callable[..., LossOutput], query: Tensor, *args: object, **kw: object) -> Tensor:
    leaf = query.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, *args, **kw).loss, leaf)[0]


@pytest.mark.parametrize("case", CASES, ids=str)
class TestEveryDenseLoss:
    def test_returns_scalar_and_detached_diagnostics(self, case: Case) -> None:
        query, key, positives = make_maps()
        output = case.function(query.requires_grad_(), key.requires_grad_(), positives)
        assert isinstance(output, LossOutput)
        assert output.loss.shape == ()
        assert {"positive_similarity", "positives_per_cell", "overlap_share"} <= set(
            output.diagnostics
        )
        assert output.diagnostics["overlap_share"] == 1
        for value in output.diagnostics.values():
            assert value.shape == ()
            assert not value.requires_grad
        output.loss.backward()
        assert query.grad.abs().max() > 0
        assert key.grad is None

    def test_module_equals_function(self, case: Case) -> None:
        maps = make_maps()
        assert torch.equal(case.module(*maps).loss, case.function(*maps).loss)

    def test_gradcheck(self, case: Case) -> None:
        query, key, positives = make_maps(2, 3, (1, 3))
        weight = torch.tensor([1.0, 0.3], dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda q: case.function(q, key, positives, weight=weight).loss, query.requires_grad_()
        )

    def test_weight_0_removes_a_sample_exactly(self, case: Case) -> None:
        query, key, positives = make_maps()
        keep = torch.tensor([0, 1, 3])
        expected = case.function(query[keep], key[keep], positives[keep])
        grad = gradient(case.function, query[keep], key[keep], positives[keep])
        for value in (0.0, math.nan, math.inf):
            query[2], key[2] = value, value
            weight = torch.tensor([1.0, 1.0, 0.0, 1.0])
            found = case.function(query, key, positives, weight=weight)
            torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)
            for name, diagnostic in found.diagnostics.items():
                torch.testing.assert_close(diagnostic, expected.diagnostics[name])
            got = gradient(case.function, query, key, positives, weight=weight)
            assert (got[2] == 0).all()
            torch.testing.assert_close(got[keep], grad, rtol=1e-10, atol=1e-14)

    def test_weight_is_a_share_of_the_mean(self, case: Case) -> None:
        query, key, positives = make_maps(3)
        twice = torch.tensor([0, 0, 0, 1, 2])
        weight = torch.tensor([3.0, 1.0, 1.0])
        torch.testing.assert_close(
            case.function(query, key, positives, weight=weight).loss,
            case.function(query[twice], key[twice], positives[twice]).loss,
        )
        half = case.function(query, key, positives, weight=weight / 7).loss
        torch.testing.assert_close(half, case.function(query, key, positives, weight=weight).loss)

    @pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
    @pytest.mark.parametrize("side", ["query", "key"])
    def test_invalid_cells_are_removed_exactly(self, case: Case, side: str, value: float) -> None:
        query, key, positives = make_maps()
        valid = torch.rand(4, *CELLS, generator=torch.Generator().manual_seed(2)) < 0.6
        valid[:, 0, 0] = True
        kwargs = {f"{side}_valid": valid}
        expected = case.function(query, key, positives, **kwargs)
        grad = gradient(case.function, query, key, positives, **kwargs)
        assert grad.abs().max() > 0
        spoiled = {"query": query, "key": key}
        spoiled[side] = torch.where(valid.unsqueeze(1), spoiled[side], value)
        maps = spoiled["query"], spoiled["key"], positives
        assert torch.equal(case.function(*maps, **kwargs).loss, expected.loss)
        assert torch.equal(gradient(case.function, *maps, **kwargs), grad)
        if side == "query":
            assert (grad.movedim(1, -1)[~valid] == 0).all()

    @pytest.mark.parametrize("value", [math.nan, 1.0])
    @pytest.mark.parametrize("nothing", ["weight", "query_valid", "key_valid", "all"])
    def test_nothing_valid_is_0_with_zero_gradient(
        self, case: Case, nothing: str, value: float
    ) -> None:
        query, key, positives = make_maps()
        none = {
            "weight": torch.zeros(4),
            "query_valid": torch.zeros(4, *CELLS, dtype=torch.bool),
            "key_valid": torch.zeros(4, *CELLS, dtype=torch.bool),
        }
        kwargs = none if nothing == "all" else {nothing: none[nothing]}
        if nothing in ("weight", "all", "query_valid"):
            query = torch.full_like(query, value)
        if nothing in ("weight", "all", "key_valid"):
            key = torch.full_like(key, value)
        output = case.function(query, key, positives, **kwargs)
        assert output.loss == 0
        if "weight" in kwargs:
            assert all(value.isnan() for value in output.diagnostics.values())
        assert (gradient(case.function, query, key, positives, **kwargs) == 0).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_low_precision(self, case: Case, dtype: torch.dtype) -> None:
        query, key, positives = make_maps(16, 4, (3, 3))
        query, key = query.to(dtype).requires_grad_(), key.to(dtype)
        output = case.function(query, key, positives)
        assert output.loss.dtype == torch.float32
        output.loss.backward()
        assert query.grad.isfinite().all()
        exact = case.function(query.double(), key.double(), positives).loss
        torch.testing.assert_close(output.loss.double(), exact, atol=2e-4, rtol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast(self, case: Case, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        layer = nn.Conv2d(4, 4, 1)
        _, _, positives = make_maps(8, 4)
        with torch.autocast("cpu", dtype=dtype):
            query, key = layer(torch.randn(8, 4, *CELLS)), layer(torch.randn(8, 4, *CELLS))
            loss = case.function(query, key, positives).loss
        assert query.dtype == dtype
        assert loss.dtype == torch.float32
        assert torch.equal(loss, case.function(query, key, positives).loss)
        loss.backward()
        assert layer.weight.grad.isfinite().all()

    def test_identical_features_and_batch_of_two(self, case: Case) -> None:
        _, _, positives = make_maps(2)
        same = torch.ones(2, 5, *CELLS)
        assert case.function(same, same, positives).loss.isfinite()
        assert gradient(case.function, same, same, positives).abs().max() < 1.0

    def test_zero_features_have_a_finite_gradient(self, case: Case) -> None:
        query, key, positives = make_maps()
        assert case.function(0 * query, key, positives).loss.isfinite()
        assert gradient(case.function, 0 * query, key, positives).abs().max() < 1e3

    def test_nan_is_not_hidden(self, case: Case) -> None:
        query, key, positives = make_maps()
        query[2, 1, 0, 0] = math.nan
        assert case.function(query, key, positives).loss.isnan()

    def test_order_of_samples_is_free(self, case: Case) -> None:
        maps = make_maps(6)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
        permuted = case.function(*[m[order] for m in maps]).loss
        torch.testing.assert_close(permuted, case.function(*maps).loss)

    def test_scale_of_features_is_free(self, case: Case) -> None:
        query, key, positives = make_maps()
        torch.testing.assert_close(
            case.function(7 * query, key / 7, positives).loss,
            case.function(query, key, positives).loss,
        )

    def test_bad_shapes(self, case: Case) -> None:
        query, key, positives = make_maps()
        with pytest.raises(InputError, match=r"^query: got \(4, 5, 0, 3\)"):
            case.function(query[:, :, :0], key[:, :, :0], positives[:, :0, :0])
        with pytest.raises(InputError, match=r"^key: got \(4, 4, 2, 3\); allowed: .*\[4, 5,"):
            case.function(query, key[:, :4], positives)
        with pytest.raises(InputError, match=r"^weight: got \(3,\)"):
            case.function(query, key, positives, weight=torch.ones(3))
        with pytest.raises(InputError, match=r"^key_valid: got \(4, 3, 2\)"):
            case.function(query, key, positives, key_valid=torch.ones(4, 3, 2) > 0)
        for name in ("query_valid", "key_valid"):
            with pytest.raises(InputError, match=rf"^{name}: got .* of bool, not torch.float32"):
                case.function(query, key, positives, **{name: torch.ones(4, *CELLS)})

    @pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
    def test_bad_weight(self, case: Case, bad: float) -> None:
        weight = torch.tensor([1.0, bad, 1.0, 1.0])
        with pytest.raises(InputError, match=r"^weight: got .*; allowed: 0 or more, finite"):
            case.function(*make_maps(), weight=weight)


@pytest.mark.parametrize("name", ["pixpro", "dense_info_nce", "dense_info_nce-queue"])
def test_bad_positives(name: str) -> None:
    query, key, positives = make_maps()
    case = next(case for case in CASES if case.name == name)
    with pytest.raises(InputError, match=r"^positives: got \(4, 5, 6\); allowed: .*\(4, 6, 6\)"):
        case.function(query, key, positives[:, :5])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_bad_temperature(temperature: float) -> None:
    with pytest.raises(InputError, match=r"^temperature: got"):
        dense_info_nce(*make_maps(), temperature=temperature)
    with pytest.raises(InputError, match=r"^temperature: got"):
        DenseInfoNCE(temperature)


@pytest.mark.parametrize("queue", [torch.ones(0, 5), torch.ones(3, 4), torch.ones(5)])
def test_bad_queue(queue: Tensor) -> None:
    with pytest.raises(InputError, match=r"^queue: got"):
        dense_info_nce(*make_maps(), queue)


def _soft(positives: Tensor, seed: int = 4) -> Tensor:
    return positives * torch.rand(positives.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("soft", [False, True])
def test_pixpro_equals_the_loop(soft: bool, seed: int) -> None:
    query, key, positives = make_maps(seed=seed)
    positives = (_soft(positives) if soft else positives).double()
    positives[1] = 0.0
    weight = torch.tensor([1.0, 0.5, 0.0, 2.0], dtype=torch.float64)
    run = partial(pixpro, weight=weight)
    torch.testing.assert_close(
        run(query, key, positives).loss, oracle.pixpro(query, key, positives, weight)
    )
    torch.testing.assert_close(
        gradient(run, query, key, positives),
        gradient(lambda *a: LossOutput(oracle.pixpro(*a, weight), {}), query, key, positives),
    )


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("queue", [None, QUEUE])
def test_dense_info_nce_equals_the_loop(
    queue: Tensor | None, soft: bool, temperature: float
) -> None:
    query, key, positives = make_maps()
    positives = (_soft(positives) if soft else positives).double()
    positives[1] = 0.0
    weight = torch.tensor([1.0, 0.5, 0.0, 2.0], dtype=torch.float64)

    def literal(q: Tensor, k: Tensor, chosen: Tensor) -> LossOutput:
        loss = oracle.dense_info_nce(q, k, chosen, queue, weight, temperature)
        return LossOutput(loss, {})

    def run(q: Tensor, k: Tensor, chosen: Tensor) -> LossOutput:
        return dense_info_nce(q, k, chosen, queue, temperature=temperature, weight=weight)

    maps = query, key, positives
    torch.testing.assert_close(run(*maps).loss, literal(*maps).loss)
    torch.testing.assert_close(gradient(run, *maps), gradient(literal, *maps))


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_pairs_that_depth_takes_away_are_no_negatives(mode: str) -> None:
    """A soft weight that underflows is no step in the loss: it is what is left of it."""
    query, key, near = make_maps()
    depth = torch.rand(4, *CELLS, generator=torch.Generator().manual_seed(2))
    kept = depth_positives(near, depth, depth.flip(1), mode, sigma=0.01).positives
    assert ((kept == 0) & near).any()
    run = partial(dense_info_nce, near=near)
    expected = oracle.dense_info_nce(query, key, kept, None, torch.ones(4), 0.2, near)
    torch.testing.assert_close(run(query, key, kept).loss, expected)
    tiny = torch.where(near & (kept == 0), 1e-30, kept)
    torch.testing.assert_close(run(query, key, kept).loss, dense_info_nce(query, key, tiny).loss)
    assert torch.equal(run(query, key, kept).loss, DenseInfoNCE()(query, key, kept, near=near).loss)
    assert torch.equal(
        run(query, key, kept).loss, run(query, key, kept, near=near & (kept == 0)).loss
    )
    with pytest.raises(InputError, match=r"^near: got \(3, 6, 6\)"):
        dense_info_nce(query, key, kept, near=near[:3])


def test_pixpro_of_equal_views_is_minus_2() -> None:
    query, _, _ = make_maps()
    same = torch.eye(6).expand(4, -1, -1)
    assert pixpro(query, query, same).loss.item() == pytest.approx(-2, abs=1e-5)


def test_a_pair_without_overlap_counts_as_0() -> None:
    query, key, positives = make_maps(2)
    alone = pixpro(query[:1], key[:1], positives[:1]).loss
    positives[1] = False
    output = pixpro(query, key, positives)
    torch.testing.assert_close(output.loss, alone / 2)
    assert output.diagnostics["overlap_share"] == 0.5
    grad = gradient(pixpro, query, key, positives)
    assert grad.isfinite().all()
    assert (grad[1] == 0).all()


def test_dense_info_nce_with_one_positive_is_moco_per_cell() -> None:
    query, key, _ = make_maps()
    match = matched_positives(query, key)
    q, k = unit(query).transpose(1, 2), unit(key).transpose(1, 2)
    chosen = k.gather(1, match.int().argmax(2, keepdim=True).expand_as(k))
    signal = (q * chosen).sum(-1, keepdim=True)
    noise = q @ nn.functional.normalize(QUEUE, dim=1).T
    logits = torch.cat([signal, noise], -1).flatten(0, 1) / 0.2
    expected = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    found = dense_info_nce(query, key, match, QUEUE, temperature=0.2).loss
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)  # 1e-6 beside six positives


def test_all_cells_positive_and_no_queue_leaves_nothing_to_contrast() -> None:
    query, key, positives = make_maps()
    everything = torch.ones_like(positives)
    assert dense_info_nce(query, key, everything).loss == 0
    assert (gradient(dense_info_nce, query, key, everything) == 0).all()


def test_an_invalid_key_is_no_negative() -> None:
    query, key, _ = make_maps(1, cells=(1, 3))
    same = torch.eye(3).unsqueeze(0)
    valid = torch.tensor([[[True, True, False]]])
    found = dense_info_nce(query, key, same, query_valid=valid, key_valid=valid).loss
    less = dense_info_nce(query[..., :2], key[..., :2], same[:, :2, :2]).loss
    torch.testing.assert_close(found, less)


def test_decoupling_equals_pixpro_of_the_kept_cells() -> None:
    query, key, _ = make_maps()
    kept = torch.rand(4, *CELLS, generator=torch.Generator().manual_seed(5)) < 0.5
    chosen = torch.diag_embed(kept.flatten(1).double())
    output = decoupling(query, key, kept)
    torch.testing.assert_close(output.loss, oracle.pixpro(query, key, chosen, torch.ones(4)))
    assert output.diagnostics["kept_share"] == kept.double().mean()
    with pytest.raises(InputError, match=r"^kept: got \(4, 3, 2\)"):
        decoupling(query, key, kept.transpose(1, 2))
    with pytest.raises(InputError, match=r"^kept: got .* of bool, not torch.float64"):
        decoupling(query, key, kept.double())


def test_depositioning_of_one_region_is_minus_2() -> None:
    query, key, _ = make_maps()
    assert depositioning(query, 5 * query).loss.item() == pytest.approx(-2, abs=1e-5)
    chosen = torch.eye(6).expand(4, -1, -1)
    expected = oracle.pixpro(query, key, chosen, torch.ones(4))
    torch.testing.assert_close(depositioning(query, key).loss, expected)


def test_mask_positives_takes_rows_columns_and_samples() -> None:
    positives = torch.full((2, 2, 3), math.nan)
    found = mask_positives(
        positives,
        weight=torch.tensor([1.0, 0.0]),
        query_valid=torch.tensor([[[True, False]], [[True, True]]]),
        key_valid=torch.tensor([[[True, True, False]], [[True, True, True]]]),
    )
    assert found[0].isnan().tolist() == [[True, True, False], [False, False, False]]
    assert (found[1] == 0).all()
    assert mask_positives(positives > 0, weight=torch.ones(2)).dtype == torch.bool


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("weight", torch.ones(3)),
        ("weight", torch.tensor([1.0, -1.0])),
        ("query_valid", torch.ones(2, 1, 2)),
        ("query_valid", torch.ones(2, 1, 3) > 0),
        ("key_valid", torch.ones(1, 1, 3) > 0),
        ("key_valid", torch.ones(2, 3) > 0),
    ],
)
def test_mask_positives_refuses(name: str, bad: Tensor) -> None:
    with pytest.raises(InputError, match=f"^{name}: got"):
        mask_positives(torch.ones(2, 2, 3), **{name: bad})
    with pytest.raises(InputError, match=r"^positives: got \(2, 3\)"):
        mask_positives(torch.ones(2, 3), **{name: bad})


def test_matched_positives_refuse() -> None:
    query, key, _ = make_maps()
    for bad in (key[:, :4], key[:3], key[0]):
        with pytest.raises(InputError, match=r"^key: got"):
            matched_positives(query, bad)
    with pytest.raises(InputError, match=r"^query: got"):
        matched_positives(query[0], key)
    for valid in (torch.ones(4, 3, 2) > 0, torch.ones(4, *CELLS), torch.ones(3, *CELLS) > 0):
        with pytest.raises(InputError, match=r"^key_valid: got"):
            matched_positives(query, key, key_valid=valid)


def test_matched_positives_are_the_most_similar_valid_cells() -> None:
    query, key, _ = make_maps()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(6))
    moved = query.flatten(2)[..., order].unflatten(2, CELLS)
    found = matched_positives(query, 4 * moved)
    assert torch.equal(found[0].nonzero()[:, 1], order.argsort())
    valid = torch.tensor([True, False, True, True, False, True]).view(1, *CELLS).repeat(4, 1, 1)
    valid[3] = False
    key[:, :, 0, 1] = math.nan
    chosen = matched_positives(query, key, key_valid=valid)
    assert not (chosen & ~valid.flatten(1).unsqueeze(1)).any()
    assert (chosen[:3].sum(2) == 1).all()
    assert not chosen[3].any()


def test_combine_sums_by_weight_and_names_its_parts() -> None:
    query, key, positives = make_maps()
    parts = {"32": pixpro(query, key, positives), "16": dense_info_nce(query, key, positives)}
    plain, weighted = combine(parts), combine(parts, {"32": 0.5, "16": 2.0})
    torch.testing.assert_close(plain.loss, parts["32"].loss + parts["16"].loss)
    torch.testing.assert_close(weighted.loss, 0.5 * parts["32"].loss + 2 * parts["16"].loss)
    assert torch.equal(plain.diagnostics["16_loss"], parts["16"].loss)
    assert "32_positive_similarity" in plain.diagnostics
    with pytest.raises(InputError, match="weights: got"):
        combine(parts, {"32": 1.0})
    with pytest.raises(InputError, match="outputs: got"):
        combine({})


def test_propagation_equals_the_loop() -> None:
    torch.manual_seed(1)
    module = PixelPropagation(5).double()
    query, _, _ = make_maps(2)
    expected = [oracle.propagate(m, module.transform.weight, module.transform.bias) for m in query]
    torch.testing.assert_close(module(query), torch.stack(expected))
    made = module(query.requires_grad_())
    assert torch.autograd.grad(made.sum(), query)[0].isfinite().all()


def test_propagation_takes_nothing_from_invalid_cells() -> None:
    torch.manual_seed(1)
    module = PixelPropagation(5).double()
    query, _, _ = make_maps(1, cells=(1, 4))
    valid = torch.tensor([[[True, True, False, True]]])
    expected = module(query[..., [0, 1, 3]])
    query[..., 2] = math.nan
    made = module(query, valid)
    torch.testing.assert_close(made[..., [0, 1, 3]], expected)
    assert (made[..., 2] == 0).all()
    made.sum().backward()
    assert module.transform.weight.grad.isfinite().all()


def test_propagation_under_autocast() -> None:
    module = PixelPropagation(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = module(torch.randn(2, 8, 3, 3))
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.norm(dim=1), torch.ones(2, 3, 3))


@pytest.mark.parametrize("settings", [{"channels": 0}, {"channels": 4, "power": 0.5}])
def test_propagation_refuses(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        PixelPropagation(**settings)


DISTRIBUTED = {"pixpro": pixpro, "own": dense_info_nce, "queue": _queued(dense_info_nce)}
WEIGHT = torch.tensor([1.0, 0.0, 0.5, 2.0, 0.0, 0.0, 0.25, 1.0], dtype=torch.float64)


def _step(encoder: nn.Module, name: str, maps: tuple[Tensor, ...], weight: Tensor) -> Tensor:
    encoder.zero_grad()
    query, key, positives = maps
    loss = DISTRIBUTED[name](encoder(query), key, positives, weight=weight).loss
    loss = rank_share(weight) * loss
    loss.backward()
    return torch.cat([loss.detach().view(1), *(p.grad.flatten() for p in encoder.parameters())])


def _encoder() -> nn.Module:
    torch.manual_seed(3)
    return nn.Conv2d(5, 5, 1).double()


def _rank(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    mine = slice(4 * rank, 4 * rank + 4)
    maps = [m[mine] for m in make_maps(8)]
    encoder = DistributedDataParallel(_encoder())
    steps = {name: _step(encoder, name, maps, WEIGHT[mine]) for name in DISTRIBUTED}
    none = rank_share(torch.zeros(4))
    torch.save({**steps, "none": none}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert ranks[0]["none"] == 1
    for name in DISTRIBUTED:
        expected = _step(_encoder(), name, make_maps(8), WEIGHT)
        value = (ranks[0][name][0] + ranks[1][name][0]) / 2
        torch.testing.assert_close(value, expected[0])
        for rank in ranks:
            torch.testing.assert_close(rank[name][1:], expected[1:])


def test_one_process_has_the_whole_share() -> None:
    assert rank_share(torch.tensor([0.0, 2.0])) == 1
