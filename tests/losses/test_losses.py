"""Every image-level loss through the same checks."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rscontrast.errors import InputError
from rscontrast.losses import (
    BATCH,
    QUEUE,
    LossOutput,
    debiased_contrastive,
    false_contrastive,
    false_negative_attraction,
    false_negative_elimination,
    glofnd,
    info_nce,
    queue_debiased_contrastive,
    queue_false_contrastive,
    queue_false_negative_attraction,
    queue_false_negative_elimination,
    queue_glofnd,
    queue_info_nce,
)
from rscontrast.losses.contrast import batch_contrast
from tests.losses.cases import BATCH_CASES, CASES, QUEUE_CASES, Case, Inputs


def value_and_gradients(
    case: Case, loss: Callable[..., Tensor], inputs: Inputs
) -> tuple[Tensor, ...]:
    leaves = [x.detach().clone().requires_grad_() for x in case.trained(inputs)]
    value = loss(*leaves, *inputs[len(leaves) :])
    return (value.detach(), *torch.autograd.grad(value, leaves))


def assert_same(
    case: Case, loss: Callable[..., Tensor], expected: Callable[..., Tensor], inputs: Inputs
) -> None:
    torch.testing.assert_close(
        value_and_gradients(case, loss, inputs), value_and_gradients(case, expected, inputs)
    )


def without(case: Case, inputs: Inputs, kept: Tensor) -> Inputs:
    samples = case.per_sample(inputs)
    return (*(x[kept] for x in samples), *inputs[len(samples) :])


@pytest.mark.parametrize("case", CASES, ids=str)
class TestEveryLoss:
    @pytest.mark.parametrize("temperature", [0.07, 0.5])
    def test_equals_the_literal_loops(self, case: Case, temperature: float) -> None:
        for seed in range(2):
            loss = partial(case.loss, temperature=temperature)
            expected = partial(case.expected, temperature=temperature)
            assert_same(case, loss, expected, case.inputs(seed=seed))

    def test_branch_is_alive(self, case: Case) -> None:
        plain = QUEUE_CASES[0] if case.queue else BATCH_CASES[0]
        if case is not plain:
            inputs = case.inputs()
            assert abs(case.loss(*inputs) - plain.loss(*inputs)) > 1e-3

    def test_gradcheck(self, case: Case) -> None:
        inputs = case.inputs(4, 3)
        leaves = tuple(x.requires_grad_() for x in case.trained(inputs))
        rest = inputs[len(leaves) :]
        assert torch.autograd.gradcheck(lambda *given: case.loss(*given, *rest), leaves)

    def test_keys_and_queue_have_no_gradient(self, case: Case) -> None:
        inputs = [x.requires_grad_() for x in case.inputs()]
        case.loss(*inputs).backward()
        has = [x.grad is not None for x in inputs]
        assert has == ([True, False, False] if case.queue else [True, True])

    def test_returns_scalar_and_detached_diagnostics(self, case: Case) -> None:
        inputs = [x.requires_grad_() for x in case.inputs()]
        labels = torch.tensor([0, 0, 1, 1, 2, 2])
        given = {"labels": labels}
        given |= {"queue_labels": torch.tensor([0, 0, 0, 1, 1, 2, 2])} if case.queue else {}
        plain, output = case.function(*inputs), case.function(*inputs, **given)
        assert isinstance(output, LossOutput)
        assert output.loss.shape == ()
        assert torch.equal(plain.loss, output.loss)
        for value in output.diagnostics.values():
            assert value.shape == ()
            assert not value.requires_grad
        assert set(output.diagnostics) > set(plain.diagnostics)
        share = 14 / 42 if case.queue else 24 / 120
        assert output.diagnostics["same_class_share"].item() == pytest.approx(share)

    def test_module_equals_function(self, case: Case) -> None:
        inputs = case.inputs()
        weight = torch.tensor([1, 0, 2, 1, 1, 0.5])
        module = case.module(temperature=0.2)
        loss = module(*inputs, weight=weight).loss
        assert torch.equal(loss, case.loss(*inputs, weight=weight, temperature=0.2))
        assert not list(module.parameters())
        assert module.needs_index == bool(list(module.buffers()))
        assert "temperature=0.2" in repr(module)

    @pytest.mark.parametrize("noise", [0.01, 1.0])
    def test_low_temperature_in_float32(self, case: Case, noise: float) -> None:
        inputs = [x.float() for x in case.inputs(16, 8, noise)]
        single = value_and_gradients(case, partial(case.loss, temperature=0.01), tuple(inputs))
        double = case.loss(*(x.double() for x in inputs), temperature=0.01)
        assert all(x.isfinite().all() for x in single)
        assert single[0].dtype == torch.float32
        torch.testing.assert_close(single[0].double(), double, atol=2e-4, rtol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_low_temperature_under_autocast(self, case: Case, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        layer = nn.Linear(8, 8)
        inputs = [x.float() for x in case.inputs(16, 8)]
        with torch.autocast("cpu", dtype=dtype):
            embeddings = [layer(x) for x in inputs]
            loss = case.loss(*embeddings, temperature=0.01)
        assert embeddings[0].dtype == dtype
        assert loss.dtype == torch.float32
        assert torch.equal(loss, case.loss(*(x.float() for x in embeddings), temperature=0.01))
        loss.backward()
        assert loss.isfinite()
        assert layer.weight.grad.isfinite().all()

    def test_order_of_samples_is_free(self, case: Case) -> None:
        inputs, order = case.inputs(8), torch.tensor([3, 0, 7, 4, 6, 1, 2, 5])
        others = [without(case, inputs, order)]
        if case.queue:
            others.append((*inputs[:2], inputs[2].flip(0)))
        else:
            others.append((inputs[1], inputs[0]))
        loss = case.loss(*inputs)
        assert all(torch.allclose(loss, case.loss(*x)) for x in others) == case.order_free

    def test_scale_of_embeddings_is_free(self, case: Case) -> None:
        first, *rest = inputs = case.inputs()
        torch.testing.assert_close(case.loss(*inputs), case.loss(7 * first, *(x / 7 for x in rest)))

    def test_batch_of_two(self, case: Case) -> None:
        inputs = case.inputs(2)
        assert all(x.isfinite().all() for x in value_and_gradients(case, case.loss, inputs))
        assert_same(case, case.loss, case.expected, inputs)

    def test_identical_embeddings(self, case: Case) -> None:
        inputs = tuple(torch.ones_like(x).float() for x in case.inputs(4, 3))
        loss = partial(case.loss, temperature=0.01)
        value, *gradients = value_and_gradients(case, loss, inputs)
        assert -1e-5 <= value <= math.log(8) + 1e-5
        assert all(x.abs().max() < 1e-3 for x in gradients)

    def test_an_embedding_of_length_0_has_a_finite_gradient(self, case: Case) -> None:
        inputs = case.inputs()
        for x in case.per_sample(inputs):
            x[2] = 0
        value, *gradients = value_and_gradients(case, case.loss, inputs)
        assert value.isfinite()
        assert all(x.abs().max() < 10 for x in gradients)

    def test_nan_is_not_hidden(self, case: Case) -> None:
        for which in range(len(case.inputs())):
            inputs = case.inputs()
            inputs[which][2, 1] = math.nan
            assert case.loss(*inputs).isnan()

    @pytest.mark.parametrize("filled", [None, 0.0, 1e30, math.inf, math.nan])
    def test_weight_0_removes_a_sample(self, case: Case, filled: float | None) -> None:
        inputs, weight = case.inputs(), torch.tensor([1, 0.5, 0, 2, 0, 1]).double()
        kept = weight > 0
        if filled is not None:
            for x in case.per_sample(inputs):
                x[~kept, 1:] = filled
        less, weights = without(case, inputs, kept), weight[kept]
        value, *found = value_and_gradients(case, partial(case.loss, weight=weight), inputs)
        alone = value_and_gradients(case, partial(case.loss, weight=weights), less)
        torch.testing.assert_close((value, *(x[kept] for x in found)), alone)
        assert all((x[~kept] == 0).all() for x in found)
        literal = value_and_gradients(case, partial(case.expected, weight=weights), less)
        torch.testing.assert_close(alone, literal)

    def test_removed_samples_are_not_logged(self, case: Case) -> None:
        inputs, labels = case.inputs(), torch.tensor([0, 0, 1, 1, 2, 2])
        weight = torch.tensor([1.0, 1, 0, 1, 0, 1])
        for x in case.per_sample(inputs):
            x[weight == 0] = math.nan
        classes = {"queue_labels": torch.arange(7) % 3} if case.queue else {}
        whole = case.function(*inputs, weight=weight, labels=labels, **classes)
        less = without(case, inputs, weight > 0)
        alone = case.function(*less, labels=labels[weight > 0], **classes)
        for name, value in alone.diagnostics.items():
            torch.testing.assert_close(whole.diagnostics[name], value, equal_nan=True, msg=name)

    def test_equal_weights_are_none(self, case: Case) -> None:
        weight = torch.full((6,), 0.3)
        assert_same(case, partial(case.loss, weight=weight), case.loss, case.inputs())

    @pytest.mark.parametrize("left", [0, 1])
    @pytest.mark.parametrize("temperature", [0.01, 0.5])
    def test_no_or_one_sample_is_left(self, case: Case, left: int, temperature: float) -> None:
        inputs = tuple(x.float() for x in case.inputs())
        weight = torch.zeros(6)
        weight[:left] = 1
        for x in case.per_sample(inputs):
            x[left:] = math.nan
        loss = partial(case.loss, weight=weight, temperature=temperature)
        value, *gradients = value_and_gradients(case, loss, inputs)
        if left and case.queue:
            assert value.isfinite()
        else:
            assert value == 0
            assert all((x == 0).all() for x in gradients)

    @pytest.mark.parametrize(
        ("weight", "message"),
        [
            ([1.0, 1, -0.1, 1, 1, 1], r"weight: got \[-0.1.*, 1.0\]; allowed: 0 or more, finite"),
            ([1.0, 1, math.nan, 1, 1, 1], "weight: got"),
            ([1.0, 1, math.inf, 1, 1, 1], "weight: got"),
            ([1.0, 1], r"weight: got \(2,\); allowed: one a sample, \(6,\)"),
            ([[1.0] * 6], r"weight: got \(1, 6\)"),
        ],
    )
    def test_bad_weight(self, case: Case, weight: list[Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            case.function(*case.inputs(), weight=torch.tensor(weight))

    def test_bad_labels(self, case: Case) -> None:
        with pytest.raises(InputError, match=r"^labels: got \(12,\)"):
            case.function(*case.inputs(), labels=torch.zeros(12))

    @pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
    def test_bad_temperature(self, case: Case, temperature: float) -> None:
        with pytest.raises(InputError, match=r"^temperature: got .*; allowed: a finite number"):
            case.function(*case.inputs(), temperature=temperature)
        with pytest.raises(InputError, match=r"^temperature: got"):
            case.module(temperature=temperature)


@pytest.mark.parametrize("case", BATCH_CASES, ids=str)
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
def test_bad_views(
    case: Case, shape1: tuple[int, ...], shape2: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        case.function(torch.rand(shape1), torch.rand(shape2))


@pytest.mark.parametrize("case", QUEUE_CASES, ids=str)
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4,), (4,), (5, 3)), r"query: got \(4,\)"),
        (((4, 3), (5, 3), (5, 3)), r"key: got \(5, 3\); allowed: the shape of query, \(4, 3\)"),
        (((4, 3), (4, 3), (5, 2)), r"queue: got \(5, 2\); allowed: a shape \[K, 3\]"),
        (((4, 3), (4, 3), (0, 3)), r"queue: got \(0, 3\)"),
    ],
)
def test_bad_queue(case: Case, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        case.function(*(torch.rand(shape) for shape in shapes))


@pytest.mark.parametrize("case", QUEUE_CASES, ids=str)
def test_bad_queue_labels(case: Case) -> None:
    with pytest.raises(InputError, match=r"^queue_labels: got \(6,\)"):
        case.function(*case.inputs(), queue_labels=torch.zeros(6))


BAD = [
    ("false", {"confidence": -0.1}, "confidence: got -0.1; allowed: a number from 0 to 1"),
    ("false", {"confidence": 1.1}, "confidence: got 1.1"),
    ("false", {"confidence": math.nan}, "confidence: got nan"),
    ("false", {"positive_threshold": math.nan}, "positive_threshold: got nan"),
    ("false", {"select": "neerest"}, "select: got 'neerest'; .*did you mean 'nearest'"),
    ("false", {"margin": -0.1}, "margin: got -0.1"),
    ("false", {"max_selected": 0}, "max_selected: got 0"),
    ("debiased", {"class_share": 1.0}, "class_share: got 1.0; allowed: a number from 0 to"),
    ("debiased", {"class_share": -0.1}, "class_share: got -0.1"),
    ("false_negative_attraction", {"threshold": math.nan}, "threshold: got nan"),
    ("false_negative_elimination", {"max_selected": 1.5}, "max_selected: got 1.5"),
]


@pytest.mark.parametrize(("name", "settings", "message"), BAD)
def test_bad_settings(name: str, settings: dict[str, Any], message: str) -> None:
    for case, family in ((BATCH_CASES[0], BATCH), (QUEUE_CASES[0], QUEUE)):
        with pytest.raises(InputError, match=message):
            family[name](**settings)
        with pytest.raises(InputError, match=message):
            family[name].function(*case.inputs(), **settings)


@pytest.mark.parametrize(
    ("case", "function"), [(BATCH_CASES[0], glofnd), (QUEUE_CASES[0], queue_glofnd)]
)
def test_bad_thresholds(case: Case, function: Callable[..., LossOutput]) -> None:
    with pytest.raises(InputError, match=r"thresholds: got \(5,\); allowed: \(6,\)"):
        function(*case.inputs(), torch.ones(5))


OFF: list[tuple[Callable[..., LossOutput], Callable[..., LossOutput], dict[str, Any]]] = [
    *(
        (false_contrastive, queue_false_contrastive, {"select": select, "margin": 0.5} | off)
        for select in ("global", "nearest", "above")
        for off in ({"confidence": 0.0, "positive_threshold": -1.0}, {"positive_threshold": 1.1})
    ),
    (debiased_contrastive, queue_debiased_contrastive, {"class_share": 0.0}),
    (false_negative_attraction, queue_false_negative_attraction, {"threshold": 1.1}),
    (false_negative_elimination, queue_false_negative_elimination, {"threshold": 1.1}),
    (glofnd, queue_glofnd, {"thresholds": torch.ones(6)}),
]


@pytest.mark.parametrize(("batch", "queue", "off"), OFF)
def test_switched_off_is_info_nce(
    batch: Callable[..., LossOutput], queue: Callable[..., LossOutput], off: dict[str, Any]
) -> None:
    for case, function in ((BATCH_CASES[0], batch), (QUEUE_CASES[0], queue)):
        for inputs in (case.inputs(), tuple(torch.ones_like(x) for x in case.inputs())):
            changed = partial(lambda f, *given: f(*given, temperature=0.5, **off).loss, function)
            assert_same(case, changed, case.loss, inputs)


def test_a_family_holds_every_loss() -> None:
    assert list(BATCH) == list(QUEUE)
    assert [BATCH["info_nce"].function, QUEUE["info_nce"].function] == [info_nce, queue_info_nce]
    for family in (BATCH, QUEUE):
        assert [name for name, module in family.items() if module.needs_index] == ["glofnd"]


def test_one_query_is_enough() -> None:
    for case in QUEUE_CASES:
        assert_same(case, case.loss, case.expected, case.inputs(1))


def test_a_threshold_of_1_leaves_out_none_of_identical_embeddings() -> None:
    generator = torch.Generator().manual_seed(0)
    view = torch.randn(8, 33, generator=generator).repeat(2, 1)
    assert batch_contrast(view, view, 0.5).negatives.max() > 2  # a cosine above 1, by a rounding
    plain = info_nce(view, view).loss
    for found in (
        glofnd(view, view, torch.ones(16)),
        false_negative_attraction(view, view, threshold=1.0),
        false_negative_elimination(view, view, threshold=1.0),
    ):
        assert found.diagnostics["false_negative_share"] == 0
        assert torch.equal(found.loss, plain)
