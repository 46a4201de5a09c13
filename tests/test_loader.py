"""The loader: torch's batches, read ahead by threads, that go on where a run was cut."""

import gc
import threading
import time
import traceback
from itertools import chain

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, default_collate
from torchgeo.datasets import stack_samples

from rscontrast.errors import AssetError, InputError
from rscontrast.loader import PairLoader
from tests.numbers import Numbers
from tests.sample_world import trainer


class Unsafe(Numbers):
    thread_safe = False


class Draws(Sampler):
    """A sampler with a state: a permutation of each epoch, as EpochSampler's are."""

    def __init__(self, length, seed=0):
        self.length, self.seed, self.epoch, self.drawn = length, seed, 0, 0

    def __len__(self):
        return self.length

    def __iter__(self):
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        while self.drawn < self.length:
            self.drawn += 1
            yield int(order[self.drawn - 1])
        self.epoch, self.drawn = self.epoch + 1, 0

    def set_epoch(self, epoch):
        if epoch != self.epoch:
            self.epoch, self.drawn = epoch, 0

    def state_dict(self):
        return {"epoch": self.epoch, "drawn": self.drawn}

    def load_state_dict(self, state):
        self.epoch, self.drawn = state["epoch"], state["drawn"]


def indices(batches):
    return [batch["index"].tolist() for batch in batches]


def loader(length=20, cls=Numbers, **arguments):
    return PairLoader(cls(length), batch_size=3, sampler=Draws(length), **arguments)


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    gc.collect()
    assert not running()


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("more", [{}, {"drop_last": True}, {"prefetch": 7}, {"prefetch": 1}])
def test_batches_are_those_of_torch(threads, more):
    ours = PairLoader(Numbers(), batch_size=3, sampler=Draws(20), threads=threads, **more)
    more = {k: v for k, v in more.items() if k != "prefetch"}
    theirs = DataLoader(
        Numbers(), batch_size=3, sampler=Draws(20), collate_fn=stack_samples, **more
    )
    assert len(ours) == len(theirs)
    for _ in range(2):  # two epochs, which differ
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a["image"], b["image"])
            assert torch.equal(a["index"], b["index"])


def test_no_sample_is_read_in_the_main_thread():
    ours = loader()
    list(ours)
    assert set(ours.dataset.read_by) == {"read"}


def test_single_samples_and_other_batches():
    one = PairLoader(Numbers(4), batch_size=None)
    assert [int(sample["index"]) for sample in one] == [0, 1, 2, 3]
    own = PairLoader(Numbers(4), batch_sampler=[[3], [0, 1]])
    assert indices(own) == [[3], [0, 1]]
    lists = PairLoader(Numbers(4), 2, collate_fn=list)
    assert [len(batch) for batch in lists] == [2, 2]

    class Stream(IterableDataset):
        def __iter__(self):
            yield from ({"index": torch.tensor(i)} for i in range(4))

    assert indices(PairLoader(Stream(), batch_size=2)) == [[0, 1], [2, 3]]


class Held(Numbers):
    """Samples whose reading is seen, and waits for leave."""

    def __init__(self, length):
        super().__init__(length)
        self.begun = [threading.Event() for _ in range(length)]
        self.leave = [threading.Event() for _ in range(length)]

    def __getitem__(self, index):
        self.begun[index].set()
        assert self.leave[index].wait(30)
        return super().__getitem__(index)


@pytest.mark.parametrize("prefetch", [1, 3])
def test_the_next_batches_are_read_while_one_is_held_and_no_more(prefetch):
    data = Held(12)
    for leave in data.leave[:2]:
        leave.set()
    batches = iter(PairLoader(data, batch_size=2, prefetch=prefetch, threads=32))
    assert indices([next(batches)]) == [[0, 1]]
    ahead = range(2, 2 + 2 * prefetch)
    # The first batch is held here, and the next ones are in the middle of being read.
    assert all(data.begun[i].wait(30) for i in ahead)
    assert not any(begun.is_set() for begun in data.begun[ahead.stop :])
    for leave in data.leave:
        leave.set()
    assert list(chain(*indices(batches))) == list(range(2, 12))


def test_slow_samples_do_not_change_the_order():
    data = Held(6)
    batches = iter(PairLoader(data, batch_size=2, threads=6))
    first = threading.Thread(target=lambda: [e.set() for e in reversed(data.leave)])
    first.start()
    assert indices(batches) == [[0, 1], [2, 3], [4, 5]]
    first.join()


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_comes_with_its_batch_and_its_place(threads):
    seen = []
    ours = PairLoader(Numbers(12, bad=[7]), batch_size=2, threads=threads)

    def take():
        for batch in ours:
            seen.extend(batch["index"].tolist())

    with pytest.raises(AssetError, match="sample 7 is broken") as error:
        take()
    assert seen == [0, 1, 2, 3, 4, 5]
    assert "in __getitem__" in "".join(traceback.format_tb(error.tb))
    # Even though the traceback is held.
    assert not running()


def test_a_bad_sampler_or_collation_is_told_too():
    def draws():
        yield 0
        raise InputError("roi", 1, "a place")

    class Bad(Sampler):
        def __iter__(self):
            return draws()

    with pytest.raises(InputError, match="roi"):
        list(PairLoader(Numbers(), sampler=Bad()))

    def uneven(samples):
        return torch.stack([torch.ones(n + 1) for n, _ in enumerate(samples)])

    with pytest.raises(RuntimeError, match="stack expects"):
        list(PairLoader(Numbers(), batch_size=2, collate_fn=uneven))


def running():
    return [t for t in threading.enumerate() if t.name.startswith(("read", "finish"))]


def test_an_iterator_that_is_left_early_leaves_no_thread():
    ours = loader()
    for _ in ours:
        break
    assert not running()
    batches = iter(ours)
    assert not running()  # nothing happens before the first batch
    next(batches)
    assert running()
    del batches
    assert not running()

    def interrupted():
        for _ in ours:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not running()
    two = iter(ours), iter(ours)
    assert [next(one)["index"].shape for one in two] == [(3,), (3,)]
    two[0].close()
    next(two[1])
    two[1].close()
    assert not running()


class Collecting(Held):
    """Reading collects garbage once there is leave."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        gc.collect()
        return sample


class Cycle:
    pass


def test_the_collector_may_end_an_iterator_on_a_thread_of_its_own():
    """A thread cannot wait for itself: that would be told as an unraisable error."""
    data = Collecting(6)
    data.leave[0].set()
    cycle = Cycle()
    cycle.itself, cycle.batches = cycle, iter(PairLoader(data, batch_size=1, threads=2))
    gc.disable()
    try:
        next(cycle.batches)
        assert data.begun[1].wait(30)
        del cycle  # which only the collector finds, in the thread that reads sample 1
        for leave in data.leave:
            leave.set()
        deadline = time.monotonic() + 30
        while running() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        gc.enable()
    assert not running()


def test_a_dataset_that_is_not_safe_is_read_by_one_thread():
    most, now = [], []

    class Watched(Unsafe):
        def __getitem__(self, index):
            now.append(index)
            most.append(len(now))
            time.sleep(0.002)
            now.pop()
            return super().__getitem__(index)

    list(PairLoader(Watched(12), batch_size=4))
    assert max(most) == 1
    with pytest.raises(InputError, match=r"threads: got 4; allowed: 1: Unsafe does not say"):
        PairLoader(Unsafe(), threads=4)
    PairLoader(Unsafe(), threads=1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"prefetch": 0}, "prefetch: got 0"),
        ({"threads": 0}, "threads: got 0"),
        ({"num_workers": -1}, "num_workers: got -1"),
        ({"num_workers": 1, "threads": 2}, "threads: got 2; allowed: None with num_workers"),
    ],
)
def test_numbers_out_of_range_are_refused(more, words):
    with pytest.raises(InputError, match=words):
        PairLoader(Numbers(), **more)


def test_pinned_memory_where_there_is_a_device_and_silence_where_not():
    ours = loader(pin_memory=True)
    there = torch.accelerator.is_available()
    assert all(batch["image"].is_pinned() == there for batch in ours)


@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_worker_processes(context):
    expected = indices(loader()) + indices(loader())
    ours = loader(
        num_workers=1,
        multiprocessing_context=context,
        persistent_workers=True,
        pin_memory=True,
        collate_fn=default_collate,
    )
    first = indices(ours)
    assert ours.state_dict() == {"sampler": {"epoch": 1, "drawn": 0}}
    ours.sampler.set_epoch(0)
    assert first + indices(ours) == expected
    ours.sampler.set_epoch(0)
    batches = iter(ours)
    assert indices([next(batches), next(batches)]) == expected[:2]
    assert ours.state_dict() == {"sampler": {"epoch": 0, "drawn": 6}}
    ours._iterator._shutdown_workers()


@pytest.mark.parametrize("cut", range(8))
def test_a_state_goes_on_with_the_next_batch(cut):
    unbroken = indices(loader()) + indices_of_epoch(1)
    before = loader(prefetch=3)
    batches = iter(before)
    assert indices(next(batches) for _ in range(cut)) == unbroken[:cut]
    state = before.state_dict()
    batches.close()
    after = loader(prefetch=3)
    after.load_state_dict(state)
    assert after.state_dict() == state
    rest = indices(after)
    rest += indices(after) if len(rest) + cut < len(unbroken) else []
    assert rest == unbroken[cut:]


def indices_of_epoch(epoch):
    other = loader()
    other.sampler.set_epoch(epoch)
    return indices(other)


def test_a_sampler_without_a_state_is_continued_by_count():
    before = PairLoader(Numbers(10), batch_size=3)
    batches = iter(before)
    next(batches)
    assert before.state_dict() == {"batches": 1}
    batches.close()
    after = PairLoader(Numbers(10), batch_size=3)
    after.load_state_dict({"batches": 1})
    assert after.state_dict() == {"batches": 1}
    assert indices(after) == [[3, 4, 5], [6, 7, 8], [9]]
    assert after.state_dict() == {"batches": 0}
    assert len(indices(after)) == 4
    with pytest.raises(InputError, match=r"state: got \['batches'\].*'sampler'"):
        loader().load_state_dict({"batches": 1})


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"batches": -1}, "batches: got -1; allowed: a whole number, 0 or more"),
        ({"batches": "x"}, "batches: got 'x'"),
        ({"batches": 4}, "batches: got 4; allowed: less than 4, those of an epoch"),
        ({}, "state: got .*'batches'"),
        (None, "state: got None"),
    ],
)
def test_a_state_that_cannot_be_is_refused(state, words):
    ours = PairLoader(Numbers(10), batch_size=3)
    with pytest.raises(InputError, match=words):
        ours.load_state_dict(state)
    assert len(indices(ours)) == 4


def test_a_shuffle_is_not_resumed_in_mid_epoch():
    """Its order is another each time: some samples would come twice, others never."""
    ours = PairLoader(Numbers(12), batch_size=3, shuffle=True)
    batches = iter(ours)
    next(batches)
    state = ours.state_dict()
    batches.close()
    after = PairLoader(Numbers(12), batch_size=3, shuffle=True)
    with pytest.raises(InputError, match=r"batches: got 1; .*sampler with state_dict"):
        after.load_state_dict(state)
    after.load_state_dict({"batches": 0})
    assert sorted(chain(*indices(after))) == list(range(12))
    seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
    whole, rest = (PairLoader(Numbers(12), 3, shuffle=True, generator=one) for one in seeded)
    rest.load_state_dict({"batches": 1})
    assert indices(rest) == indices(whole)[1:]


class Notes(pl.LightningModule):
    """Notes the samples that it was trained on."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(3, 1), []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, batch["index"].tolist()))
        return self.layer(batch["image"]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Cut(pl.Callback):
    """Saves a checkpoint after so many steps, and stops the run."""

    def __init__(self, path, step, hook):
        self.path, self.step, self.hook = path, step, hook

    def on_train_batch_end(self, trainer, *_):
        if self.hook == "batch" and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise StoppedError

    def on_train_epoch_end(self, trainer, *_):
        if self.hook == "epoch" and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise StoppedError


class StoppedError(Exception):
    pass


def fit(folder, *, path=None, **arguments):
    notes = Notes()
    # Parts are made in a hook, as a datamodule's are.
    notes.train_dataloader = loader
    trainer(folder, max_epochs=3, **arguments).fit(notes, ckpt_path=path)
    return notes.seen


@pytest.mark.parametrize(
    ("step", "hook"), [(3, "batch"), (7, "batch"), (7, "epoch"), (9, "batch"), (14, "epoch")]
)
def test_lightning_resumes_with_the_next_batch(step, hook, tmp_path):
    """Seven batches an epoch: cuts in the middle, after the last batch, and between epochs."""
    unbroken = fit(tmp_path)
    assert len(unbroken) == 21
    assert len({str(batches) for batches in unbroken}) == 21
    path = tmp_path / "cut.ckpt"
    with pytest.raises(StoppedError):
        fit(tmp_path, callbacks=[Cut(path, step, hook)])
    assert fit(tmp_path, path=path) == unbroken[step:]


def test_lightning_may_cut_epochs_short(tmp_path):
    seen = fit(tmp_path, limit_train_batches=2)
    assert [epoch for epoch, _ in seen] == [0, 0, 1, 1, 2, 2]
    assert [batch for _, batch in seen] == [
        batch for epoch in range(3) for batch in indices_of_epoch(epoch)[:2]
    ]


def test_lightning_makes_the_loader_anew_with_all_its_arguments(tmp_path):
    """Which it does to put another sampler in: here to overfit on one batch."""
    notes = Notes()
    made = PairLoader(Numbers(6), batch_size=2, sampler=Draws(6), threads=3, prefetch=5)
    run = trainer(tmp_path, max_epochs=2, overfit_batches=1)
    with pytest.warns(UserWarning, match="overfit"):
        run.fit(notes, made)
    again = run.train_dataloader
    assert type(again) is PairLoader
    assert (again.threads, again.prefetch, again.collate_fn) == (3, 5, stack_samples)
    assert [batch for _, batch in notes.seen] == [[0, 1], [0, 1]]
