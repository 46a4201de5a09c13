"""A run that was stopped and goes on equals the unbroken one, weights bit for bit."""

import pytest
import torch

from rscontrast.datamodules import PairDataModule
from rscontrast.tasks import BYOL, FALSE, DenseCL, MoCo, PixPro, SimCLR
from tests.sample_world import BANDS, event_pairs, scenes, trainer

SMALL = {"in_channels": 4, "hidden_dim": 16, "output_dim": 8}
EPOCHS, STEPS = 2, 3
STOPS = (2, 3)
KINDS = {
    "simclr": (SimCLR, {"optimizer": "lars", "lr": 1.0}),
    # This encoder drops paths: what a step draws must go on too.
    "false": (FALSE, {"model": "efficientnet-b0", "confidence": 0.5, "positive_threshold": -1.0}),
    "moco": (MoCo, {"queue_size": 16, "warmup": 2}),
    "byol": (BYOL, {"optimizer": "adamw", "lr": 1e-3}),
    # The terms draw in each step.
    "pixpro": (PixPro, {"levels": 2, "terms": {"decoupling": None, "depositioning": None}}),
    "densecl": (DenseCL, {"queue_size": 16, "terms": {"decoupling": None}}),
}


def run(kind, folder, *, resume=None, accumulate=1):
    """Train; from the start, keep a checkpoint after some of the batches."""
    base, extra = KINDS[kind]
    torch.manual_seed(0 if resume is None else 99)  # what was not kept would differ
    data = PairDataModule(
        scenes(), event_pairs(), list(BANDS), patch_size=32, batch_size=4,
        length=4 * STEPS, statistics_patches=1, threads=1,
    )  # fmt: skip

    class Kept(base):
        losses = ()

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.losses = (*self.losses, loss.item())
            return loss

        def on_train_batch_end(self, *_):
            if resume is None and len(self.losses) in STOPS:
                self.trainer.save_checkpoint(folder / f"{len(self.losses)}.ckpt")

    task = Kept(**({"model": "tu-resnet10t"} | SMALL | extra))
    made = trainer(folder, max_epochs=EPOCHS, accumulate_grad_batches=accumulate)
    made.fit(task, datamodule=data, ckpt_path=resume)
    return task, made


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_the_unbroken_one(kind, tmp_path):
    """From a checkpoint of mid-epoch (2 of 3 batches), and of after an epoch's last batch."""
    whole, one = run(kind, tmp_path)
    assert len(whole.losses) == EPOCHS * STEPS
    for stop in STOPS:
        rest, two = run(kind, tmp_path, resume=tmp_path / f"{stop}.ckpt")
        assert rest.losses == whole.losses[stop:]
        assert one.global_step == two.global_step
        a, b = whole.state_dict(), rest.state_dict()
        assert [key for key in a if not torch.equal(a[key], b[key])] == []
        states = [made.optimizers[0].state_dict()["state"] for made in (one, two)]
        for index, kept in states[0].items():
            for name, value in kept.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][index][name]))


def test_other_draws_give_other_weights(tmp_path):
    """The test above can fail: from the start, or without the state, the weights are others."""
    whole, _ = run("moco", tmp_path)
    base, extra = KINDS["moco"]
    fresh = base(**({"model": "tu-resnet10t"} | SMALL | extra))
    assert not torch.equal(whole.queue.keys, fresh.queue.keys)
    accumulated, made = run("moco", tmp_path, accumulate=3)
    assert made.global_step == EPOCHS
    assert accumulated.losses[1:] != whole.losses[1:]
