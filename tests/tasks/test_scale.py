"""What makes a run faster or smaller changes neither its results nor its checkpoint's keys."""

import copy

import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.models import create_encoder
from rscontrast.models.recompute import recompute_blocks
from rscontrast.tasks import BYOL, MoCo, SimCLR
from tests.sample_world import trainer
from tests.tasks.test_methods import fit

TINY = {"model": "resnet18", "in_channels": 4, "hidden_dim": 16, "output_dim": 8}
KINDS = [(SimCLR, {}), (MoCo, {"queue_size": 16}), (BYOL, {})]


def step(task, extra, **scale):
    """Loss, gradients and state after one forward and backward pass."""
    torch.manual_seed(0)
    module = task(**(TINY | extra | scale)).double()
    torch.manual_seed(1)
    loss = module.contrast({"image": torch.randn(4, 2, 4, 32, 32).double()}).loss
    loss.backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, module.state_dict()


@pytest.mark.parametrize(("task", "extra"), KINDS)
@pytest.mark.parametrize(
    "scale", [{"gradient_checkpointing": True}, {"channels_last": True}, {"compile": "eager"}]
)
def test_a_step_is_the_same(task, extra, scale):
    plain, scaled = step(task, extra), step(task, extra, **scale)
    torch.testing.assert_close(scaled[0], plain[0])
    for one, two in zip(scaled[1:], plain[1:], strict=True):
        assert list(one) == list(two)
        for name in one:
            torch.testing.assert_close(one[name], two[name], rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    "name", ["resnet18", "tu-resnet10t", "tu-convnext_atto", "efficientnet-b0", "mit_b0"]
)
def test_blocks_are_run_again_and_their_inner_activations_are_not_kept(name):
    torch.manual_seed(0)
    plain = create_encoder(name, 4)
    again = copy.deepcopy(plain)
    assert recompute_blocks(again)
    with pytest.raises(InputError, match="gradient_checkpointing"):
        recompute_blocks(again)
    kept = []
    for encoder in (plain, again, copy.deepcopy(again)):
        torch.manual_seed(2)
        saved = 0

        def note(tensor):
            nonlocal saved
            saved += tensor.numel()
            return tensor

        images = torch.randn(2, 4, 64, 64)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            features = encoder(images)[-1]
        features.square().mean().backward()
        kept.append(saved)
    assert kept[1] == kept[2] < 0.75 * kept[0]
    for (key, one), two in zip(
        plain.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), key
    for one, two in zip(plain.parameters(), again.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, two.grad)


def test_what_cannot_be_checkpointed_says_so():
    with pytest.raises(InputError, match=r"gradient_checkpointing.*no blocks"):
        recompute_blocks(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)))
    with pytest.raises(InputError, match="compile: got True; allowed: one of both"):
        SimCLR(**TINY, compile=True, gradient_checkpointing=True)


@pytest.mark.parametrize(("task", "extra"), KINDS)
def test_bf16_trains_and_keeps_weights_in_float32(task, extra, tmp_path):
    torch.manual_seed(0)
    module = task(**(TINY | extra | {"model": "tu-resnet10t"}))
    run = fit(module, tmp_path, precision="bf16-mixed")
    assert run.global_step == 2
    assert torch.isfinite(run.callback_metrics["train_loss"])
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_a_compiled_run_is_loaded_by_a_plain_task(tmp_path):
    torch.manual_seed(0)
    module = MoCo(**(TINY | {"model": "tu-resnet10t", "queue_size": 16, "compile": "eager"}))
    run = fit(module, tmp_path)
    run.save_checkpoint(tmp_path / "run.ckpt")
    plain = MoCo.load_from_checkpoint(tmp_path / "run.ckpt", compile=False)
    assert all(
        torch.equal(one, two)
        for one, two in zip(module.state_dict().values(), plain.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("model", ["tu-efficientnet_b0", "resnet18"])
def test_norms_that_would_lose_their_activation_are_not_made_one_over_ranks(model, tmp_path):
    task = SimCLR(model=model)
    task.trainer = trainer(tmp_path, devices=2, strategy="ddp", sync_batchnorm=True)
    if model == "resnet18":
        task.setup("fit")
    else:
        with pytest.raises(InputError, match=r"sync_batchnorm: got True.*activation"):
            task.setup("fit")
