"""Tasks learn, start from what they are given, and stop at what is not finite."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rscontrast.datamodules import DamageDataModule
from rscontrast.datamodules.damage import class_weights
from rscontrast.errors import BandError, InputError, TrainingError
from rscontrast.models import create_encoder, save_encoder
from rscontrast.tasks import FALSE, DamageSegmentation, SimCLR
from rscontrast.tasks.optimisers import warmup_cosine
from tests.sample_world import BANDS, CONTRACT, event_pairs, scenes, trainer

TINY = {"model": "tu-resnet10t", "in_channels": 4, "hidden_dim": 32, "output_dim": 16}


def views(size=8, seed=0):
    torch.manual_seed(seed)
    place = torch.randn(size, 1, 4, 32, 32)
    return {"image": place + 0.3 * torch.randn(size, 2, 4, 32, 32)}


def build(task, **arguments):
    torch.manual_seed(0)
    return task(**(TINY | arguments))


@pytest.mark.parametrize(
    ("task", "extra"),
    [(SimCLR, {}), (FALSE, {"select": "nearest", "positive_threshold": -1.0, "confidence": 0.3})],
)
def test_the_loss_falls_on_a_fixed_batch(task, extra):
    module, batch = build(task, **extra), views()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss, _ = module.contrast(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_false_calibrates_where_the_threshold_lets_it():
    batch = views()

    def loss(task, **extra):
        module = build(task, **extra).eval()
        with torch.no_grad():
            return module.contrast(batch)[0].item()

    plain = loss(SimCLR)
    assert loss(FALSE, positive_threshold=-1.0, confidence=0.9) != pytest.approx(plain, abs=1e-4)
    assert loss(FALSE, positive_threshold=-1.0, confidence=0.0) == pytest.approx(plain, abs=1e-5)
    assert loss(FALSE, positive_threshold=1.1) == pytest.approx(plain, abs=1e-5)


def fit(module, data, folder, epochs=1):
    run = trainer(folder, max_epochs=epochs)
    loader = DataLoader(data, batch_size=4)
    run.fit(module, loader, loader)
    return run


class Records(list):
    """A list is a dataset to torch."""


def samples(count=8):
    return Records({"image": image} for image in views(count)["image"])


def test_start_epoch_changes_the_loss_when_its_epoch_has_come(tmp_path):
    module, seen = build(FALSE, start_epoch=1), []
    former = module.training_step

    def step(batch, batch_idx):
        loss = former(batch, batch_idx)
        seen.append(module.criterion is module.calibrated)
        return loss

    module.training_step = step
    fit(module, samples(), tmp_path, epochs=2)
    assert seen == [False, False, True, True]


@pytest.mark.parametrize("task", [SimCLR, FALSE])
def test_nan_stops_the_run_and_names_step_and_remedy(task, tmp_path):
    data = samples()
    data[5]["image"][0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"step 1: lower lr.*NaN in the imagery"):
        fit(build(task), data, tmp_path)


def test_biases_and_norms_are_not_decayed_and_the_rate_rises_then_falls(tmp_path):
    module = build(SimCLR, weight_decay=0.1)
    run = fit(module, samples(), tmp_path)
    (optimizer,) = run.optimizers
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    kept = {id(p) for p in plain["params"]}
    named = dict(module.named_parameters())
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(named)
    for name, parameter in named.items():
        norm_or_bias = parameter.ndim == 1
        assert (id(parameter) in kept) == norm_or_bias, name
    assert any(name.endswith("bias") for name, p in named.items() if id(p) in kept)
    assert run.global_step == 2


def test_the_schedule_rises_then_falls_to_0():
    rates = np.array([warmup_cosine(step, 100) for step in range(101)])
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert 0 < rates.max() <= 1


def pretrained(folder, bands=4):
    torch.manual_seed(5)
    encoder = create_encoder("resnet18", bands)
    save_encoder(folder / "encoder.pt", encoder, "resnet18", CONTRACT)
    return encoder, str(folder / "encoder.pt")


@pytest.mark.parametrize("decoder", ["unet", "deeplabv3plus"])
def test_finetuning_starts_from_exactly_the_pretrained_encoder(decoder, tmp_path):
    encoder, path = pretrained(tmp_path)
    task = DamageSegmentation(decoder=decoder, weights=path)
    saved, found = encoder.state_dict(), task.model.encoder.state_dict()
    assert list(saved) == list(found)
    assert all(torch.equal(saved[key], found[key]) for key in saved)
    other = DamageSegmentation(decoder=decoder).model.encoder.state_dict()
    assert not torch.equal(other["conv1.weight"], saved["conv1.weight"])


def labelled(count=4):
    torch.manual_seed(0)
    return Records(
        {
            "image": torch.randn(2, 4, 64, 64),
            "valid": torch.ones(2, 64, 64, dtype=torch.bool),
            "mask": torch.randint(0, 5, (64, 64)),
        }
        for _ in range(count)
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_freeze_encoder_freezes_weights_and_statistics(frozen, tmp_path):
    encoder, path = pretrained(tmp_path)
    task = DamageSegmentation(weights=path, freeze_encoder=frozen)
    before = {key: value.clone() for key, value in task.model.decoder.state_dict().items()}
    fit(task.train(), labelled(), tmp_path)
    saved, found = encoder.state_dict(), task.model.encoder.state_dict()
    same = {key: torch.equal(saved[key], found[key]) for key in saved}
    assert all(same.values()) == frozen, [key for key in same if not same[key]]
    after = task.model.decoder.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_unusable_and_unlabelled_pixels_do_not_count():
    task = DamageSegmentation(model="tu-resnet10t").eval()
    batch = torch.utils.data.default_collate(labelled())
    batch["valid"][:, 1, :20] = False
    with torch.no_grad():
        loss = task.step(batch)
        batch["mask"][:, :20] = 255
        assert torch.equal(task.step(batch), loss)
        batch["mask"][:] = 255
        assert task.step(batch) == 0


def test_what_does_not_fit_the_weights_is_refused(tmp_path):
    _, path = pretrained(tmp_path)
    with pytest.raises(InputError, match="encoder: got 'resnet34'"):
        DamageSegmentation(model="resnet34", weights=path)
    with pytest.raises(BandError, match="in_channels: got 3; allowed: 4"):
        DamageSegmentation(in_channels=3, weights=path)
    with pytest.raises(InputError, match="class_weights"):
        DamageSegmentation(class_weights=[1.0, 2.0])
    with pytest.raises(InputError, match="lr: got 0"):
        SimCLR(lr=0.0)
    with pytest.raises(InputError, match="start_epoch: got -1"):
        FALSE(start_epoch=-1)


def test_class_weights_are_the_inverse_roots_of_the_frequencies():
    counts = np.array([400, 100, 0, 25])
    found = np.array(class_weights(counts))
    seen = counts > 0
    assert found[2] == 1
    assert found[seen].mean() == pytest.approx(1)
    assert found[seen] / found[0] == pytest.approx(np.sqrt(400 / counts[seen]))


def damage(**arguments):
    given = {"label": "damage", "classes": 5, "patch_size": 64, "batch_size": 4, "length": 8}
    module = DamageDataModule(scenes(), event_pairs(), list(BANDS), **(given | arguments))
    module.setup("fit")
    return module


def test_label_share_keeps_the_share_of_the_patches_by_the_seed():
    def patches(share, seed):
        sampler = damage(label_share=share, seed=seed).train_sampler
        return [str(patch) for patch in sampler.sampler.patches.slices]

    whole, some = patches(1.0, 0), patches(0.3, 0)
    assert len(some) == round(0.3 * len(whole))
    assert set(some) < set(whole)
    assert patches(0.3, 0) == some
    assert patches(0.3, 1) != some


def test_too_few_classes_are_refused():
    with pytest.raises(InputError, match=r"class_names.*got 4; allowed: 5 or more"):
        damage(classes=4)
    with pytest.raises(InputError, match="label_share: got 0"):
        damage(label_share=0.0)
