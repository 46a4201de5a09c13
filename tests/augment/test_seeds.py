"""Seeds: what repeats itself, over calls, workers and threads, also in a TorchGeo pipeline."""

import pickle

import pytest
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import DataLoader, Dataset
from torchgeo.datasets.utils import stack_samples

from rscontrast.augment import Dihedral, PairViews
from rscontrast.augment.replay import Seeds
from rscontrast.datamodules import PairDataModule
from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.loader import PairLoader
from rscontrast.samplers import RandomPlaceSampler, TemporalPairSampler
from tests.sample_world import BANDS, CONTRACT, event_pairs, scenes


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.rand(3, 2, 4, 32, 32, generator=generator),
        "valid": torch.rand(3, 2, 32, 32, generator=generator) > 0.2,
        "mask": torch.zeros(3, 32, 32).long(),
    }


@pytest.mark.parametrize(
    "make", [lambda seed: PairViews(CONTRACT, 24, preset="simclr", seed=seed),
             lambda seed: Dihedral(CONTRACT, seed=seed)]
)  # fmt: skip
def test_a_seed_gives_one_run_whatever_torch_draws_meanwhile(make):
    def run(seed, calls=2):
        views = make(seed)
        return [views(batch())["image"] for _ in range(calls)]

    state = torch.get_rng_state()
    first, second = run(5)
    assert torch.equal(torch.get_rng_state(), state)  # and it leaves torch's draws alone
    torch.manual_seed(99)
    again = run(5)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, run(6)[0])


def test_a_run_that_is_cut_goes_on_as_it_would_have():
    views, later = (PairViews(CONTRACT, 24, seed=5) for _ in range(2))
    whole = [views(batch())["image"] for _ in range(4)]
    later.seeds.calls = 2
    assert torch.equal(later(batch())["image"], whole[2])
    assert torch.equal(pickle.loads(pickle.dumps(later))(batch())["image"], whole[3])


def test_each_rank_and_call_has_draws_of_its_own():
    found = set()
    for rank in (0, 1, 2):
        # torch's own process group that only says which rank it is
        torch.distributed.init_process_group("fake", rank=rank, world_size=3, store=FakeStore())
        try:
            seeds = Seeds(7)
            found |= {seeds.batch(torch.device("cpu")).initial_seed() for _ in range(4)}
        finally:
            torch.distributed.destroy_process_group()
    assert len(found) == 12


def test_a_single_sample_draws_from_its_pixels():
    seeds = Seeds(3)
    images = torch.rand(20, 2, 4, 8, 8).to(torch.bfloat16)
    found = [seeds.sample(image).initial_seed() for image in images]
    assert len(set(found)) == 20
    assert [Seeds(3).sample(image).initial_seed() for image in images.flip(0)] == found[::-1]
    assert Seeds(4).sample(images[0]).initial_seed() != found[0]
    assert seeds.sample(images[0].mT).initial_seed() != found[0]  # also of a view of its memory
    assert Seeds(None).sample(images[0]) is None


class Drawn(Dataset):
    """Numbered slices of a dataset, as a sampler drew them."""

    def __init__(self, dataset, draws):
        self.dataset, self.draws = dataset, draws

    def __len__(self):
        return len(self.draws)

    def __getitem__(self, number):
        return self.dataset[self.draws[number]]


@pytest.fixture(scope="module")
def images():
    return STACDataset(scenes(), bands=list(BANDS))


@pytest.fixture(scope="module")
def draws(images):
    pairs = TemporalPairDataset(images)
    dates = TemporalPairSampler(pairs, pairs=event_pairs(), generator=0)
    places = RandomPlaceSampler(pairs, size=32, length=6, roi=dates.roi, generator=0)
    return list(places @ dates)


def loaded(dataset, draws, **options):
    torch.manual_seed(options.get("num_workers", 0))
    loader = DataLoader(Drawn(dataset, draws), 3, collate_fn=stack_samples, **options)
    return list(loader)


def test_views_as_transforms_of_a_torchgeo_dataset(images, draws):
    """Single samples in, single samples out, that stack to batches: the same of any reader."""
    views = PairViews(CONTRACT, 24, preset="simclr", seed=3)
    plain = TemporalPairDataset(images) & images.labels("damage")
    dataset = TemporalPairDataset(images, transforms=views) & images.labels("damage")
    sample = dataset[draws[0]]
    assert sample["image"].shape == (2, 4, 24, 24)
    assert sample["valid"].shape == sample["mask"].shape == (2, 24, 24)
    assert sample["view_matrix"].shape == sample["view_transform"].shape == (2, 3, 3)
    assert "params" not in sample
    for key in ("dates", "bounds", "transform"):
        assert torch.equal(sample[key], plain[draws[0]][key])
    alone = loaded(dataset, draws)
    assert alone[0]["image"].shape == (3, 2, 4, 24, 24)
    threads = PairLoader(dataset, 3, sampler=draws, threads=3)
    for other in (loaded(dataset, draws, num_workers=2), list(threads)):
        for one, same in zip(alone, other, strict=True):
            for key in ("image", "valid", "mask", "view_matrix"):
                assert torch.equal(one[key], same[key])


def test_views_of_one_date_and_of_both_layouts(images, draws):
    x, y, (pre, _) = draws[0]
    views = PairViews(CONTRACT, 24, seed=3)
    single = STACDataset(scenes(), bands=list(BANDS), transforms=views)[x, y, pre]
    assert single["image"].shape == (2, 4, 24, 24)
    assert single["valid"].shape == (2, 24, 24)
    time, flat = (
        TemporalPairDataset(images, layout=layout, transforms=views)[draws[0]]
        for layout in ("time", "channels")
    )
    assert torch.equal(time["image"], flat["image"])


def module(**arguments):
    data = PairDataModule(
        scenes(), event_pairs(), list(BANDS), patch_size=32, batch_size=2, length=4,
        statistics_patches=2, **arguments,
    )  # fmt: skip
    data.setup("fit")
    return data


def test_views_of_a_datamodule_repeat_themselves_for_any_number_of_workers():
    def run(workers, seed=0, **views):
        data = module(seed=seed, views=views)
        torch.manual_seed(workers)
        # As its own loader, but for workers that wait for another epoch.
        loader = PairLoader(data.train_dataset, 2, sampler=data.train_sampler, num_workers=workers)
        return [data.train_aug(one)["image"] for one in loader]

    alone = run(0)
    for one, same in zip(alone, run(2), strict=True):
        assert torch.equal(one, same)
    assert not torch.equal(alone[0], run(0, seed=8)[0])


def test_training_and_validation_draw_apart_and_the_state_holds_where_they_are():
    data = module()
    given = batch()
    first = data.train_aug(given)["image"]
    assert not torch.equal(first, data.val_aug(given)["image"])
    list(data.train_dataloader())
    state = data.state_dict()
    second = data.train_aug(given)["image"]
    data.load_state_dict(state)
    assert torch.equal(data.train_aug(given)["image"], second)


def test_views_that_are_repeated_take_no_draws():
    views, other = (PairViews(CONTRACT, 24, seed=5) for _ in range(2))
    params = views(batch())["params"]
    other(batch())
    views(batch(), params)
    assert torch.equal(views(batch())["image"], other(batch())["image"])
