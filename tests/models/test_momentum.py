"""Momentum encoder and queue: equal at the start, moved by the formula, a ring of keys."""

import pytest
import torch
from torch import nn

from rscontrast.errors import InputError
from rscontrast.models.momentum import MomentumEncoder, cosine_momentum
from rscontrast.models.queue import Queue


def online():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))


def test_a_fresh_copy_is_equal_bit_for_bit_and_stays_so_while_its_model_does():
    module = online()
    copied = MomentumEncoder(module)
    for _ in range(50):
        copied.update(module, 0.99)
    own, theirs = copied.module.state_dict(), module.state_dict()
    assert list(own) == list(theirs)
    assert all(torch.equal(own[key], theirs[key]) for key in own)
    assert all(own[key].data_ptr() != theirs[key].data_ptr() for key in own)


def test_an_update_moves_by_the_formula():
    module = online().double()
    copied = MomentumEncoder(module)
    before = [p.clone() for p in copied.parameters()]
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p))
    copied.update(module, 0.9)
    for old, new, now in zip(before, copied.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * now, rtol=1e-12, atol=1e-12)
    copied.update(module, 0.0)
    assert all(map(torch.equal, copied.parameters(), module.parameters()))


def test_it_has_no_gradient_and_gathers_its_own_statistics():
    module = online()
    copied = MomentumEncoder(module).train()
    keys = copied(torch.randn(8, 3, requires_grad=True))
    assert not keys.requires_grad
    assert not any(p.requires_grad for p in copied.parameters())
    assert not torch.equal(copied.module[1].running_mean, module[1].running_mean)
    assert torch.equal(module[1].running_mean, torch.zeros(5))


def test_the_cosine_rises_from_its_start_to_1():
    found = [cosine_momentum(step, 10, 0.9) for step in range(12)]
    assert found[0] == pytest.approx(0.9)
    assert found[5] == pytest.approx(0.95)
    assert found[10] == found[11] == 1
    assert found == sorted(found)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_a_momentum_out_of_range_is_refused(momentum):
    module = online()
    with pytest.raises(InputError, match="momentum: got"):
        MomentumEncoder(module).update(module, momentum)


def keys(*numbers):
    """Unit vectors that tell their number."""
    angle = torch.tensor(numbers, dtype=torch.float32)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def numbers(queue):
    return torch.atan2(queue.keys[:, 1], queue.keys[:, 0]).mul(100).round().div(100).tolist()


def test_the_queue_is_a_ring_whatever_the_batch():
    queue = Queue(5, 2)
    ring = numbers(queue)
    place = 0
    for start, count in ((0.1, 2), (0.3, 3), (0.6, 1), (0.7, 4), (1.1, 5)):
        batch = [round(start + 0.1 * i, 2) for i in range(count)]
        queue.enqueue(keys(*batch))
        for number in batch:
            ring[place % 5] = number
            place += 1
        assert numbers(queue) == pytest.approx(ring)
        assert queue.pointer.item() == place % 5


def test_a_key_of_weight_0_does_not_enter_the_queue():
    whole, some = Queue(4, 2), Queue(4, 2)
    some.load_state_dict(whole.state_dict())
    for number in (0.1, 0.4, 0.7):
        bad = torch.full((1, 2), float("nan"))
        batch = torch.cat([keys(number), bad, keys(number + 0.1)])
        some.enqueue(batch, torch.tensor([0.2, 0.0, 1.0]))
        whole.enqueue(keys(number, number + 0.1))
        assert torch.equal(some.keys, whole.keys)
        assert torch.equal(some.pointer, whole.pointer)
    some.enqueue(batch, torch.zeros(3))
    assert torch.equal(some.keys, whole.keys)


def test_keys_are_unit_vectors_from_the_start_and_survive_a_checkpoint():
    queue = Queue(7, 3)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(7))
    queue.enqueue(5 * torch.randn(3, 3))
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(7))
    other = Queue(7, 3)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.keys, queue.keys)
    assert other.pointer == 3


@pytest.mark.parametrize("shape", [(5, 2), (2, 3)])
def test_what_does_not_fit_the_queue_is_refused(shape):
    with pytest.raises(InputError, match=r"keys: got .*at most \(4, 2\)"):
        Queue(4, 2).enqueue(torch.zeros(shape))
    with pytest.raises(InputError, match="queue_size: got 0"):
        Queue(0, 2)
