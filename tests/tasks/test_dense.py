"""PixPro and DenseCL: two real steps each, and every branch and term alive."""

import math
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from rscontrast.augment import PairViews
from rscontrast.errors import InputError, TrainingError
from rscontrast.losses import pixpro, view_positives
from rscontrast.tasks import DenseCL, PixPro
from rscontrast.types import SensorContract

CONTRACT = SensorContract(("b1", "b2", "b3"), 10.0, (0.3,) * 3, (0.1,) * 3)
TERMS: dict[str, Any] = {"depth": {"mode": "soft"}, "decoupling": {"p": 1.0}, "depositioning": None}
COMMON: dict[str, Any] = {
    "model": "tu-resnet10t", "in_channels": 3, "hidden_dim": 16, "output_dim": 8, "lr": 1e-2,
    "optimizer": "sgd",
}  # fmt: skip
METHODS = {"pixpro": PixPro, "densecl": DenseCL}


def make_task(name: str, **given: Any) -> Any:
    torch.manual_seed(0)
    own = {"queue_size": 32} if name == "densecl" else {}
    return METHODS[name](**(COMMON | own | given))


def make_batch(count: int = 4, size: int = 96, seed: int = 0, **views: Any) -> dict[str, Any]:
    """Views of textured patches with a height, a quarter of one of them unusable."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 6, 8, 8, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=128, mode="bilinear").view(
        count, 2, 3, 128, 128
    )
    valid = torch.ones(count, 2, 128, 128, dtype=torch.bool)
    valid[0, 0, :64, :64] = False
    depth = 20 * torch.nn.functional.interpolate(coarse[:, :1], size=128)
    maker = PairViews(CONTRACT, size, seed=seed, min_overlap=0.5, **views)
    made = maker({"image": image, "valid": valid, "depth": depth[:, 0]})
    return {k: v for k, v in made.items() if isinstance(v, Tensor)}


def fit(task: Any, tmp_path: Path, batches: list[dict[str, Any]], **given: Any) -> Trainer:
    run = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        log_every_n_steps=1, **given,
    )  # fmt: skip
    loader = DataLoader(batches, batch_size=None, num_workers=0)  # type: ignore[arg-type]
    run.fit(task, loader, loader)
    return run


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(
    ("name", "precision", "given"),
    [
        ("pixpro", "bf16-mixed", {"terms": TERMS}),
        ("pixpro", "32-true", {"levels": 3, "level_weights": [0.5, 1, 1], "optimizer": "lars"}),
        ("densecl", "32-true", {"terms": TERMS}),
        ("densecl", "bf16-mixed", {"match": "geometry", "levels": 2, "terms": {"depth": None}}),
    ],
)
def test_real_steps(name: str, precision: str, given: dict[str, Any], tmp_path: Path) -> None:
    task = make_task(name, encoder_momentum=0.9, **given)
    before = {k: v.clone() for k, v in task.state_dict().items()}
    run = fit(task, tmp_path, [make_batch(seed=s) for s in range(3)], precision=precision)
    assert run.global_step == 3
    metrics = run.callback_metrics
    assert metrics["train_loss"].isfinite()
    assert metrics["val_loss"].isfinite()
    after = task.state_dict()
    assert all(v.isfinite().all() for v in after.values() if v.is_floating_point())
    trained = [k for k, p in task.named_parameters() if p.requires_grad]
    moved = [k for k in trained if not torch.equal(after[k], before[k])]
    # A bias before a batch norm gets no gradient but rounding.
    assert len(moved) > 0.9 * len(trained)
    # timm starts each block at 0: within it nothing moves in the first step, no copy in the second.
    copied = [k for k in before if k.startswith("momentum_") and before[k].ndim > 1]
    assert sum(not torch.equal(after[k], before[k]) for k in copied) > 0.9 * len(copied)


@pytest.mark.parametrize("name", METHODS)
class TestEveryDenseTask:
    def test_fresh_copies_equal_their_originals(self, name: str) -> None:
        task = make_task(name)
        pairs = task.momentum_pairs()
        assert len(pairs) >= 2
        for online, copied in pairs:
            states = online.state_dict(), copied.module.state_dict()
            assert states[0].keys() == states[1].keys()
            assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
            assert not any(p.requires_grad for p in copied.parameters())

    def test_each_copy_is_used(self, name: str) -> None:
        task, batch = make_task(name).eval(), make_batch()
        before = task.contrast(batch).loss
        for _, copied in task.momentum_pairs():
            weight = next(p for p in copied.parameters() if p.ndim > 1)
            kept = weight.detach().clone()
            with torch.no_grad():
                weight += torch.randn(weight.shape)
            assert (task.contrast(batch).loss - before).abs() > 1e-4
            with torch.no_grad():
                weight.copy_(kept)
        assert torch.equal(task.contrast(batch).loss, before)

    def test_copies_get_no_gradient_and_all_else_does(self, name: str) -> None:
        task = make_task(name, terms=TERMS)
        task.contrast(make_batch()).loss.backward()
        for key, parameter in task.named_parameters():
            assert (parameter.grad is None) == key.startswith("momentum_"), key

    def test_terms_are_alive_and_weighed(self, name: str) -> None:
        batch = make_batch()
        plain = make_task(name).eval().contrast(batch)
        for term in ("decoupling", "depositioning"):
            loss = {}
            for weight in (1e-9, 1.0, 2.0):
                task = make_task(name, terms={term: {"weight": weight}}).eval()
                torch.manual_seed(5)
                loss[weight] = task.contrast(batch)
            torch.testing.assert_close(loss[1e-9].loss, plain.loss)
            part = loss[1.0].diagnostics[f"{term}_loss"]
            assert part.abs() > 1e-3
            torch.testing.assert_close(loss[1.0].loss, plain.loss + part)
            torch.testing.assert_close(loss[2.0].loss, plain.loss + 2 * part)

    def test_constant_depth_changes_nothing_and_a_real_one_does(self, name: str) -> None:
        batch = make_batch(size=128)
        given = {"levels": 2, "match": "geometry"} if name == "densecl" else {"levels": 2}
        plain = make_task(name, **given).eval().contrast(batch).loss
        task = make_task(name, terms={"depth": None}, **given).eval()
        real = task.contrast(batch)
        assert (real.loss - plain).abs() > 1e-5
        flat = batch | {"depth": torch.full_like(batch["depth"], 7.0)}
        assert torch.equal(task.contrast(flat).loss, plain)
        unknown = batch | {"depth": torch.full_like(batch["depth"], math.nan).unsqueeze(2)}
        assert torch.equal(task.contrast(unknown).loss, plain)
        kept = [v for k, v in real.diagnostics.items() if k.endswith("depth_kept_share")]
        assert len(kept) == 2
        assert all(0 < share < 1 for share in kept)

    def test_a_sample_without_a_usable_pixel_does_not_count(self, name: str) -> None:
        task = make_task(name, terms={"depth": None}).eval()
        batch = make_batch()
        batch["valid"][2] = False
        rest = {k: v[[0, 1, 3]] for k, v in batch.items()}
        expected = task.contrast(rest).loss
        batch["image"][2] = 3.0
        torch.testing.assert_close(task.contrast(batch).loss, expected)
        batch["valid"][:] = False
        task.train()
        loss = task.contrast(batch).loss
        assert loss == 0
        loss.backward()
        assert all((p.grad == 0).all() for p in task.parameters() if p.grad is not None)

    def test_both_layouts_are_one(self, name: str) -> None:
        task = make_task(name).eval()
        pair, flat = make_batch(), make_batch(flatten=True)
        assert flat["image"].ndim == 4
        assert torch.equal(task.contrast(pair).loss, task.contrast(flat).loss)

    def test_bad_settings(self, name: str) -> None:
        for given, message in (
            ({"levels": 9}, "levels: got 9"),
            ({"level_weights": [1.0, 2.0]}, "level_weights: got"),
            ({"level_weights": ["a"]}, r"level_weights: got \['a'\]; allowed: 1 finite"),
            ({"level_weights": [-1]}, "level_weights: got"),
            ({"level_weights": [math.nan]}, "level_weights: got"),
            ({"terms": ["decoupling"]}, r"terms: got \['decoupling'\]; allowed: settings"),
            ({"terms": {"decoupling": {"share": [0.3]}}}, "share: got"),
            ({"terms": {"dept": None}}, "terms: got 'dept'; .*did you mean 'depth'"),
            ({"terms": {"depth": {"modes": 1}}}, "terms.depth: got"),
            ({"terms": {"decoupling": {"weight": 0.0}}}, "weight: got"),
            ({"encoder_momentum": 2.0}, "encoder_momentum: got"),
        ):
            with pytest.raises(InputError, match=message):
                make_task(name, **given)

    def test_a_batch_without_what_is_needed(self, name: str) -> None:
        task = make_task(name, terms={"depth": None}).eval()
        batch = make_batch()
        del batch["depth"]
        with pytest.raises(TrainingError, match="without 'depth'"):
            task.contrast(batch)


def test_pixpro_is_the_sum_of_both_directions() -> None:
    task, batch = make_task("pixpro").eval(), make_batch()
    size = (96, 96)
    views, matrices = batch["image"].unbind(1), batch["view_matrix"].unbind(1)
    valid = [v.float().unfold(1, 32, 32).unfold(2, 32, 32).mean((3, 4)) >= 0.5
             for v in batch["valid"].unbind(1)]  # fmt: skip
    total = torch.zeros(())
    for a, b in ((0, 1), (1, 0)):
        query = task.query_cells(views[a], valid[a])
        key = task.key_cells(views[b])[-1]
        near = view_positives(matrices[a], matrices[b], size, (3, 3), (3, 3))
        total = total + pixpro(query, key, near, query_valid=valid[a], key_valid=valid[b]).loss
    torch.testing.assert_close(task.contrast(batch).loss, total)
    assert -4 <= total <= 4


def test_only_the_query_is_propagated() -> None:
    task, batch = make_task("pixpro").eval(), make_batch()
    keys = task.key_cells(batch["image"][:, 0])[-1]
    queries = task.query_cells(batch["image"][:, 0])
    with torch.no_grad():
        task.propagation.levels[0].transform.weight.mul_(-1)
        task.propagation.levels[0].transform.bias.mul_(-1)
    assert torch.equal(task.key_cells(batch["image"][:, 0])[-1], keys)
    torch.testing.assert_close(task.query_cells(batch["image"][:, 0]), -queries)


def test_densecl_weighs_patches_and_cells() -> None:
    batch = make_batch()
    whole = {share: make_task("densecl", dense_weight=share).eval().contrast(batch)
             for share in (0.0, 0.25, 1.0)}  # fmt: skip
    torch.testing.assert_close(whole[0.25].loss, 0.75 * whole[0.0].loss + 0.25 * whole[1.0].loss)
    logged = whole[0.25].diagnostics
    torch.testing.assert_close(logged["image_loss"], whole[0.0].loss.detach())
    torch.testing.assert_close(logged["dense_loss"], whole[1.0].loss.detach())


@pytest.mark.parametrize("name", METHODS)
def test_a_validation_repeats_itself_and_leaves_the_random_numbers(name: str) -> None:
    task, batch, logged = make_task(name, terms=TERMS).eval(), make_batch(), []
    task.log = lambda _, value, **__: logged.append(value)
    before = torch.get_rng_state()
    for number in (0, 0, 1):
        task.validation_step(batch, number)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(logged[0], logged[1])
    assert not torch.equal(logged[0], logged[2])


def test_mixed_views_are_not_in_the_image_level_loss() -> None:
    batch = make_batch()
    plain = make_task("densecl").contrast(batch).diagnostics["image_loss"]
    mixed = make_task("densecl", terms={"decoupling": None}).contrast(batch)
    assert torch.equal(mixed.diagnostics["image_loss"], plain)


def test_queues_take_the_keys_of_usable_views_in_training_only() -> None:
    task, batch = make_task("densecl"), make_batch()
    batch["valid"][1] = False
    queues = [task.queue, *task.dense_queues]
    before = [queue.keys.clone() for queue in queues]
    task.eval().contrast(batch)
    assert all(torch.equal(q.keys, b) for q, b in zip(queues, before, strict=True))
    task.train().contrast(batch)
    for queue, kept in zip(queues, before, strict=True):
        changed = (queue.keys != kept).any(1)
        assert changed.tolist() == [True] * 6 + [False] * 26
        assert queue.pointer == 6


def test_match_is_by_features_or_by_place() -> None:
    batch = make_batch()
    by_features = make_task("densecl").eval().contrast(batch).diagnostics
    by_place = make_task("densecl", match="geometry").eval().contrast(batch).diagnostics
    assert by_features["dense_positives_per_cell"] > 0.8
    assert by_features["dense_loss"] != by_place["dense_loss"]
    del batch["view_matrix"]
    make_task("densecl").eval().contrast(batch)
    with pytest.raises(TrainingError, match="without 'view_matrix'"):
        make_task("densecl", match="geometry").eval().contrast(batch)
    for given, message in (
        ({"match": "place"}, "match: got"),
        ({"dense_weight": 1.5}, "dense_weight: got"),
        ({"temperature": 0.0}, "temperature: got"),
        ({"loss": "glofnd", "loss_args": {"size": 8}}, "loss: got 'glofnd'.*remembers no"),
    ):
        with pytest.raises(InputError, match=message):
            make_task("densecl", **given)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_momentum_follows_the_schedule_before_the_keys(tmp_path: Path) -> None:
    task, seen = make_task("pixpro", lr=1e-3), []
    original = task.contrast

    def spy(batch: Any) -> Any:
        if task.training:
            start = task.momentum_encoder.module.state_dict()["model.conv1.0.weight"].clone()
            seen.append((task.model.state_dict()["model.conv1.0.weight"].clone(), start))
        return original(batch)

    task.contrast = spy
    fit(task, tmp_path, [make_batch(seed=s) for s in range(3)], limit_val_batches=0)
    assert torch.equal(*seen[0])
    copied = seen[0][1]
    for step in (1, 2):
        momentum = 1 - 0.01 * (math.cos(math.pi * step / 3) + 1) / 2
        copied = momentum * copied + (1 - momentum) * seen[step][0]
        torch.testing.assert_close(seen[step][1], copied)
        assert not torch.equal(seen[step][1], seen[step][0])


DISTRIBUTED: dict[str, dict[str, Any]] = {
    "pixpro": {"terms": {"depth": None}, "levels": 2},
    "densecl": {"terms": {"depth": None}},
}


def _step(name: str, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Loss, its logged parts and gradient, the mean over ranks, with norms that see no batch."""
    task = make_task(name, **DISTRIBUTED[name]).eval()
    loss, logged = task.contrast(batch)
    loss.backward()
    found = {k: p.grad for k, p in task.named_parameters() if p.grad is not None}
    found["loss"] = loss.detach()
    found |= {name: value for name, value in logged.items() if name.endswith("loss")}
    if dist.is_initialized():
        for value in found.values():
            dist.all_reduce(value)
            value /= dist.get_world_size()
    return found


def _distributed_batch() -> dict[str, Any]:
    batch = make_batch()
    batch["valid"][3] = False  # the ranks do not count alike
    return batch


def _rank(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    # Before there are ranks, of which each draws other views.
    mine = {k: v[2 * rank : 2 * rank + 2] for k, v in _distributed_batch().items()}
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.save({name: _step(name, mine) for name in DISTRIBUTED}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    expected = {name: _step(name, _distributed_batch()) for name in DISTRIBUTED}
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
