"""Fine-tuning: how the encoder is treated, what counts, what is scored and kept."""

import pytest
import torch
from torch.utils.data import DataLoader

from rscontrast.errors import BandError, InputError
from rscontrast.metrics import CalibrationError
from rscontrast.models import create_encoder, load_segmenter, save_encoder, save_segmenter
from rscontrast.tasks import DamageSegmentation
from rscontrast.types import DAMAGE_CLASSES
from tests.sample_world import BANDS, CONTRACT, trainer

TINY = {"model": "tu-test_resnet", "in_channels": 4}


class Pairs(torch.utils.data.Dataset):
    """The class of a block of pixels is what its first band says after."""

    def __init__(self, count=8, classes=5, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.samples = []
        for _ in range(count):
            mask = torch.randint(classes, (2, 2), generator=generator)
            mask = mask.repeat_interleave(16, 0).repeat_interleave(16, 1)
            image = 0.2 * torch.randn(2, 4, 32, 32, generator=generator)
            image[1, 0] += mask - 2
            valid = torch.ones(2, 32, 32, dtype=torch.bool)
            self.samples.append({"image": image, "mask": mask, "valid": valid})

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def fit(task, folder, epochs=1, val=None, **arguments):
    limit = {"limit_val_batches": 1.0} if val else {}
    run = trainer(folder, max_epochs=epochs, **limit, **arguments)
    run.fit(task, *(DataLoader(data, batch_size=4) for data in (Pairs(), val or Pairs(4))))
    return run


def build(**arguments):
    torch.manual_seed(0)
    return DamageSegmentation(**(TINY | arguments))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"heads": "two", "loss": "building_grade", "decoder": "fpn", "fusion": "attention"},
        {"heads": "two", "loss": "ordinal+lovasz", "fusion": "difference"},
        {"loss": "focal", "decoder": "fcsiamdiff"},
        {"loss": "cross_entropy", "decoder": "linear", "fusion": "concat"},
    ],
    ids=lambda more: more.get("loss", "default"),
)
def test_the_loss_falls_on_a_fixed_batch(more):
    task = build(**more)
    batch = torch.utils.data.default_collate(Pairs().samples)
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = task.step(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_pixels_that_are_unusable_at_one_date_or_unlabelled_do_not_count_exactly():
    task = build(heads="two", loss="cross_entropy+dice+lovasz+ordinal+focal").eval()
    batch = torch.utils.data.default_collate(Pairs(2).samples)
    batch["valid"][:, 0, :5] = False
    batch["mask"][:, 5:9] = 255
    loss = task.step(batch)
    changed = batch | {"mask": batch["mask"].clone()}
    changed["mask"][:, :5] = 4 - changed["mask"][:, :5]
    assert torch.equal(task.step(changed), loss)
    logits = torch.randn(2, 5, 32, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(task._loss(logits, task.targets(batch)), logits)
    assert (grad[:, :, :9] == 0).all()
    assert (grad[:, :, 9:] != 0).any(dim=1).all()
    nothing = batch | {"valid": torch.zeros_like(batch["valid"])}
    assert task.step(nothing) == 0


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("world", [1, 2])
def test_a_staged_encoder_is_frozen_then_trained_at_a_lower_rate(world, tmp_path, monkeypatch):
    """As if of two ranks, gradients are computed and dropped: DDP waits for them."""
    task = build(unfreeze_epoch=1, encoder_lr_factor=0.1, warmup=0.0)
    before, seen = state(task.model.encoder), []
    former = task.on_train_epoch_start

    def start():
        with monkeypatch.context() as patched:
            patched.setattr(type(task.trainer), "world_size", world)
            former()
        trained = all(
            p.requires_grad for n, p in task.model.named_parameters() if n not in task.model.idle
        )
        seen.append((same(before, state(task.model.encoder)), task.model.encoder.training, trained))

    monkeypatch.setattr(task, "on_train_epoch_start", start)
    run = fit(task, tmp_path, epochs=2)
    assert seen == [(True, False, world == 2), (True, True, True)]
    assert not same(before, state(task.model.encoder))
    own = {id(p) for p in task.model.encoder.parameters()}
    rates = {True: set(), False: set()}
    for group in run.optimizers[0].param_groups:
        rates[id(group["params"][0]) in own].add(group["initial_lr"])
        assert len({id(p) in own for p in group["params"]}) == 1
    assert rates == {True: {1e-4}, False: {1e-3}}


def test_a_linear_probe_is_linear_in_the_features_and_trains_nothing_else(tmp_path):
    task = build(decoder="linear", fusion="concat", freeze_encoder=True)
    before, head = state(task.model.encoder), state(task.model.segmentation_head)
    fit(task, tmp_path)
    assert same(before, state(task.model.encoder))
    assert not same(head, state(task.model.segmentation_head))
    model = task.model.eval()
    features = [torch.randn(1, 2, w, 8, 8) for w in model.encoder.out_channels]
    other = [torch.randn_like(f) for f in features]

    def logits(maps):
        fused = [
            model.fuse[str(k)](m) if str(k) in model.fuse else m[:, -1] for k, m in enumerate(maps)
        ]
        return model.segmentation_head(model.decoder(fused))

    mixed = [0.3 * a + 0.7 * b for a, b in zip(features, other, strict=True)]
    with torch.no_grad():
        expected = 0.3 * logits(features) + 0.7 * logits(other)
        torch.testing.assert_close(logits(mixed), expected, atol=1e-5, rtol=1e-4)


def test_validation_scores_calibrates_and_the_checkpoint_keeps_it(tmp_path):
    task = build(heads="two", loss="building_grade")
    run = fit(task, tmp_path, epochs=2, val=Pairs(4, seed=1))
    found = run.callback_metrics
    names = {"val_loss", "val_mean_iou", "val_building_iou", "val_ece", "val_ece_buildings"}
    assert names | {"val_xview2", "val_temperature", "val_iou/destroyed"} <= set(found)
    temperature = task.model.temperature
    assert temperature != 1
    assert found["val_temperature"].item() == pytest.approx(temperature)
    run.save_checkpoint(tmp_path / "run.ckpt")
    again = DamageSegmentation.load_from_checkpoint(tmp_path / "run.ckpt")
    assert again.model.temperature == temperature
    save_segmenter(tmp_path / "s.pt", task.model, CONTRACT, DAMAGE_CLASSES)
    assert load_segmenter(tmp_path / "s.pt").temperature == temperature

    # The least negative log likelihood on those very pixels.
    batch = torch.utils.data.default_collate(Pairs(4, seed=1).samples)
    with torch.no_grad():
        logits = task.eval()(batch["image"])

        def nll(t):
            task.model.temperature = t
            return -task.model.log_probabilities(logits).gather(1, batch["mask"][:, None]).mean()

        costs = [nll(temperature * f).item() for f in (1.0, 0.9, 1.1)]
    assert costs[0] == min(costs)


def test_tests_and_predictions_are_calibrated_and_take_the_product_of_the_heads(tmp_path):
    task = build(heads="two").eval()
    task.model.temperature = 2.5
    data = Pairs(4)
    data.samples[0]["valid"][0, :4] = False
    run = trainer(tmp_path)
    loader = DataLoader(data, batch_size=4)
    (scores,) = run.test(task, loader, verbose=False)
    (found,) = run.predict(task, loader)
    batch = next(iter(loader))
    p = task.model.probabilities(task(batch["image"]))
    torch.testing.assert_close(found["probabilities"], p.detach())
    best = p.argmax(dim=1)
    best[0, :4] = 255
    assert torch.equal(found["class"], best)
    right = (best == batch["mask"]) & (best != 255)
    share = (right.sum() / (best != 255).sum()).item()
    assert scores["test_accuracy"] == pytest.approx(share, abs=1e-6)
    error = CalibrationError()
    error.update(p, batch["mask"], batch["valid"])
    assert scores["test_ece"] == pytest.approx(error.compute().item(), abs=1e-6)


def test_the_xview2_score_is_told_of_xbds_classes_only(tmp_path):
    names = ["background", "a", "b", "c", "d"]
    task = build(class_names=names).eval()
    (scores,) = trainer(tmp_path).test(task, DataLoader(Pairs(4), batch_size=4), verbose=False)
    assert "test_xview2" not in scores
    assert "test_iou/d" in scores
    assert build(classes=3).class_names == ("class 0", "class 1", "class 2")


@pytest.mark.slow
def test_it_trains_in_bfloat16(tmp_path):
    task = build(heads="two", loss="ordinal+lovasz+focal+dice")
    run = fit(task, tmp_path, val=Pairs(4, seed=1), precision="bf16-mixed")
    assert torch.isfinite(run.callback_metrics["train_loss"])
    assert torch.isfinite(run.callback_metrics["val_ece"])


def test_an_encoder_is_adapted_to_the_bands_of_the_data(tmp_path):
    torch.manual_seed(1)
    encoder = create_encoder("tu-test_resnet", 4)
    save_encoder(tmp_path / "e.pt", encoder, "tu-test_resnet", CONTRACT)
    bands = (BANDS[3], BANDS[0])
    data = CONTRACT.adapted(bands)
    arguments = TINY | {"weights": str(tmp_path / "e.pt"), "in_channels": 2}
    with pytest.raises(BandError):
        DamageSegmentation(**arguments)
    task = DamageSegmentation(**arguments, adapt_to=data.to_dict())
    image = torch.randn(1, 2, 32, 32)
    whole = torch.zeros(1, 4, 32, 32)
    whole[:, [3, 0]] = image
    with torch.no_grad():
        ours, theirs = task.model.encoder.eval()(image), encoder.eval()(whole)
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"loss": "dice+x"}, "loss: got 'x'"),
        ({"encoder_lr_factor": 0}, "encoder_lr_factor: got 0"),
        ({"unfreeze_epoch": 0}, "unfreeze_epoch: got 0"),
        ({"unfreeze_epoch": 2, "freeze_encoder": True}, "stays frozen"),
        ({"class_names": ["a", "b"]}, "class_names: .*5 different names"),
        ({"class_weights": [0.0] * 5}, "class_weights"),
        ({"heads": "three"}, "heads: got 'three'"),
        ({"fusion": "sum"}, "fusion: got 'sum'"),
        ({"classes": 2, "loss": "ordinal"}, "fewer than 3"),
    ],
)
def test_what_cannot_be_built_is_refused(more, words):
    with pytest.raises(InputError, match=words):
        build(**more)
