"""MoCo and BYOL: branches that start equal, move and are used; losses by name; weights of 0."""

import copy

import pytest
import torch
import torchgeo.tasks
from torch.utils.data import DataLoader

from rscontrast.errors import InputError, TrainingError
from rscontrast.losses.family import BATCH, QUEUE
from rscontrast.tasks import BYOL, FALSE, MoCo, SimCLR
from tests.sample_world import trainer

TINY = {"model": "tu-resnet10t", "in_channels": 4, "hidden_dim": 32, "output_dim": 16}
MOCO = {"queue_size": 32, "lr": 0.1}
KINDS = [(MoCo, MOCO), (MoCo, MOCO | {"symmetric": True}), (BYOL, {"lr": 1.0})]


def views(size=8, seed=0):
    torch.manual_seed(seed)
    place = torch.randn(size, 1, 4, 32, 32)
    return {"image": place + 0.3 * torch.randn(size, 2, 4, 32, 32)}


def build(task, **arguments):
    torch.manual_seed(0)
    return task(**(TINY | arguments))


class Records(list):
    """A list is a dataset to torch."""


def fit(module, folder, count=8, batch_size=4, **arguments):
    data = Records({"image": image} for image in views(count)["image"])
    run = trainer(folder, **({"max_epochs": 1} | arguments))
    loader = DataLoader(data, batch_size=batch_size)
    run.fit(module, loader, loader)
    return run


def pairs_equal(module):
    return [
        all(
            torch.equal(a, b) for a, b in zip(online.parameters(), copied.parameters(), strict=True)
        )
        for online, copied in module.momentum_pairs()
    ]


@pytest.mark.parametrize(("task", "extra"), KINDS)
def test_copies_start_equal_bit_for_bit_and_move_behind(task, extra, tmp_path):
    module = build(task, **extra)
    for online, copied in module.momentum_pairs():
        own, theirs = online.state_dict(), copied.module.state_dict()
        assert list(own) == list(theirs)
        assert all(torch.equal(own[key], theirs[key]) for key in own)
    before = [p.clone() for _, copied in module.momentum_pairs() for p in copied.parameters()]
    fit(module, tmp_path, max_epochs=2)
    after = [p for _, copied in module.momentum_pairs() for p in copied.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(pairs_equal(module))
    assert not any(p.requires_grad for p in after)


def test_theirs_starts_with_other_keys_than_queries():
    """What ours is tested against: the copy of TorchGeo's MoCo is another random encoder."""
    with pytest.warns(UserWarning, match="memory bank"):
        theirs = torchgeo.tasks.MoCo(model="resnet18", in_channels=4, version=2, layers=2)
    own, copied = theirs.backbone.state_dict(), theirs.backbone_momentum.state_dict()
    assert not torch.equal(own["conv1.weight"], copied["conv1.weight"])


@pytest.mark.parametrize(("task", "extra"), KINDS)
def test_copies_are_used_and_so_is_every_trained_part(task, extra):
    """Each part of the method, perturbed, changes the loss."""
    batch = views()
    parts = ["model", "projection_head", "momentum_encoder", "momentum_projection_head"]
    parts += ["prediction_head"] if task is BYOL else ["queue"]
    for part in parts:
        module = build(task, **extra).eval()
        with torch.no_grad():
            loss = module.contrast(batch).loss
            assert torch.equal(module.contrast(batch).loss, loss)
            inner = getattr(module, part)
            for p in [*inner.parameters(), *([inner.keys] if part == "queue" else [])]:
                p.add_(0.1 * torch.randn_like(p))
            assert not torch.isclose(module.contrast(batch).loss, loss), part


@pytest.mark.parametrize(("task", "extra"), KINDS)
def test_all_that_is_trained_has_a_gradient_and_nothing_else(task, extra):
    module = build(task, **extra)
    module.contrast(views()).loss.backward()
    for name, p in module.named_parameters():
        assert (p.grad is not None) == (not name.startswith("momentum")), name


def test_the_copies_move_before_the_keys_once_an_optimiser_step(tmp_path):
    """By the formula, with gradients that accumulate over two batches."""
    module, seen = build(MoCo, **MOCO, encoder_momentum=0.5), []
    former = module.training_step

    def step(batch, batch_idx):
        weights = next(module.model.parameters())
        copied = next(module.momentum_encoder.parameters())
        seen.append((weights.detach().clone(), copied.clone()))
        return former(batch, batch_idx)

    module.training_step = step
    fit(module, tmp_path, batch_size=2, accumulate_grad_batches=2)
    (w0, k0), (w1, k1), (w2, k2), (w3, k3) = seen
    assert torch.equal(w0, k0)
    assert torch.equal(w1, w0)
    assert torch.equal(k1, k0)
    assert not torch.equal(w2, w1)
    torch.testing.assert_close(k2, 0.5 * k1 + 0.5 * w2)
    assert torch.equal(k3, k2)
    assert torch.equal(w3, w2)


def test_the_momentum_of_byol_rises_to_1_over_the_run(tmp_path):
    module, seen = build(BYOL, encoder_momentum=0.9), []
    former = module.training_step

    def step(batch, batch_idx):
        seen.append(module.encoder_momentum())
        return former(batch, batch_idx)

    module.training_step = step
    fit(module, tmp_path, max_epochs=2)
    assert seen == pytest.approx([0.9, 0.9146447, 0.95, 0.9853553])


def test_keys_of_training_enter_the_queue_and_those_of_validation_do_not():
    module, batch = build(MoCo, **MOCO), views()
    start = module.queue.keys.clone()
    module.eval().contrast(batch)
    assert torch.equal(module.queue.keys, start)
    module.train().contrast(batch)
    assert torch.equal(module.queue.keys[8:], start[8:])
    assert (module.queue.keys[:8] != start[:8]).any(dim=1).all()
    assert module.queue.pointer == 8
    torch.manual_seed(0)
    both = build(MoCo, **MOCO, symmetric=True)
    both.contrast(batch)
    assert both.queue.pointer == 16


@pytest.mark.parametrize(("task", "extra"), KINDS)
def test_the_loss_falls_on_a_fixed_batch(task, extra):
    module, batch = build(task, **extra), views()
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    # Keys of the same batch would be negatives of the next step: the queue stays as it is.
    start = task is MoCo and copy.deepcopy(module.queue.state_dict())
    losses = []
    for _ in range(15):
        if task is MoCo:
            module.queue.load_state_dict(start)
        optimizer.zero_grad()
        loss = module.contrast(batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(("task", "extra"), [*KINDS, (SimCLR, {})])
def test_both_layouts_are_one(task, extra):
    batch = views()
    flat = {"image": batch["image"].flatten(1, 2)}
    one, two = (build(task, **extra).contrast(b).loss for b in (batch, flat))
    assert torch.equal(one, two)


@pytest.mark.parametrize(("task", "extra"), [*KINDS, (SimCLR, {}), (FALSE, {})])
def test_a_sample_without_a_usable_pixel_is_removed(task, extra):
    """Without batch norm in training, the loss is that of the batch without it."""
    batch = views()
    batch["valid"] = torch.ones(8, 2, 32, 32, dtype=torch.bool)
    batch["valid"][3, 1] = False
    batch["valid"][5] = False
    batch["valid"][6, 0, :16] = False
    rest = torch.tensor([0, 1, 2, 4, 6, 7])
    with torch.no_grad():
        found = build(task, **extra).eval().contrast(batch).loss
        alone = build(task, **extra).eval().contrast({"image": batch["image"][rest]}).loss
        whole = build(task, **extra).eval().contrast({"image": batch["image"]}).loss
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)
    assert not torch.isclose(found, whole)


def test_weights_are_1_or_the_share_of_usable_pixels():
    batch = views(4)
    assert build(SimCLR).views(batch).weight is None
    batch["valid"] = torch.ones(4, 2, 32, 32, dtype=torch.bool)
    batch["valid"][1, 1] = False
    batch["valid"][2, 0, :16] = False
    assert build(SimCLR).views(batch).weight.tolist() == [1, 0, 1, 1]
    shared = build(SimCLR, sample_weight="share").views(batch).weight
    assert shared.tolist() == [1, 0, 0.75, 1]


def arguments(name):
    return {"loss": name, "loss_args": {"size": 40} if name == "glofnd" else None}


@pytest.mark.parametrize(
    ("task", "name"), [(SimCLR, name) for name in BATCH] + [(MoCo, name) for name in QUEUE]
)
def test_each_takes_any_loss_of_its_family(task, name):
    extra = {"queue_size": 32} if task is MoCo else {}
    module = build(task, **extra, **arguments(name))
    batch = views() | {"label": torch.arange(8) % 3, "index": torch.arange(8) + 30}
    loss, diagnostics = module.contrast(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert "positive_similarity" in diagnostics
    assert all(value.ndim == 0 for value in diagnostics.values())


def test_a_loss_that_remembers_samples_needs_their_numbers():
    with pytest.raises(TrainingError, match="without 'index'"):
        build(SimCLR, **arguments("glofnd")).contrast(views())


def test_false_is_simclr_with_its_loss():
    batch = views()
    chosen = {"select": "nearest", "positive_threshold": -1.0, "confidence": 0.9}
    one = build(FALSE, **chosen)
    two = build(SimCLR, loss="false", loss_args=chosen)
    assert torch.equal(one.contrast(batch).loss, two.contrast(batch).loss)


@pytest.mark.parametrize(
    ("task", "extra", "words"),
    [
        (SimCLR, {"loss": "falze"}, "loss: got 'falze'.*did you mean 'false'"),
        (SimCLR, {"loss_args": {"tau": 1}}, "loss_args: got .*tau"),
        (SimCLR, {"temperature": 0.0}, "temperature: got 0.0"),
        (SimCLR, {"sample_weight": "all"}, "sample_weight: got 'all'"),
        (SimCLR, {"seed": -1}, "seed: got -1"),
        (SimCLR, {"hidden_dim": 0}, "hidden_dim: got 0"),
        (SimCLR, {"output_dim": -1}, "output_dim: got -1"),
        (SimCLR, {"compile": "inducter"}, "compile: got 'inducter'.*did you mean 'inductor'"),
        (SimCLR, {"compile": 1}, "compile: got 1; allowed: true or false"),
        (SimCLR, {"channels_last": "no"}, "channels_last: got 'no'"),
        (FALSE, {"start_epoch": 1.5}, "start_epoch: got 1.5"),
        (FALSE, {"symmetric": "no"}, "symmetric: got 'no'; allowed: true or false"),
        (MoCo, {"symmetric": 5}, "symmetric: got 5"),
        (MoCo, {"shuffle": "no"}, "shuffle: got 'no'"),
        (FALSE, {"loss_args": {"select": "above"}}, "loss_args: got"),
        (MoCo, {"queue_size": 0}, "queue_size: got 0"),
        (MoCo, {"encoder_momentum": 1.5}, "encoder_momentum: got 1.5"),
        (BYOL, {"momentum_schedule": "linear"}, "momentum_schedule: got 'linear'"),
    ],
)
def test_what_is_wrong_is_refused_at_construction(task, extra, words):
    with pytest.raises(InputError, match=words):
        build(task, **extra)


def test_a_batch_beyond_the_queue_is_refused():
    with pytest.raises(InputError, match="raise queue_size or lower batch_size"):
        build(MoCo, queue_size=4).contrast(views())
