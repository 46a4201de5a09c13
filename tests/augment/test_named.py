"""Operations that a configuration names."""

import pytest
import torch

from rscontrast.augment import Blur, Haze, PairViews, Shadow
from rscontrast.augment.named import OPERATIONS, named
from rscontrast.errors import InputError
from tests.augment.test_augment import contract


def test_names_and_fields():
    found = named({"Haze": {"p": 1.0, "depth": [0, 0.4]}, "Shadow": None})
    assert found == (Haze(p=1.0, depth=(0, 0.4)), Shadow())


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_runs_and_repeats_itself(name):
    views = PairViews(contract(3), 16, preset="temporal", operations={name: {"p": 1.0}})
    image = torch.rand(2, 2, 3, 24, 24)
    batch = {"image": image, "valid": torch.ones(2, 2, 24, 24, dtype=torch.bool)}
    made = views(batch)
    assert torch.isfinite(made["image"]).all()
    assert torch.equal(views(batch, made["params"])["image"], made["image"])


def test_they_come_after_those_of_the_preset():
    views = PairViews(contract(2), 16, operations={"Haze": {}}, cutout=0.2)
    assert [type(one).__name__ for one in views.operations][-3:] == ["Blur", "Haze", "RegionCutout"]


def test_probabilities_by_view_ask_for_as_many_views():
    with pytest.raises(InputError, match="views"):
        PairViews(contract(2), 16, operations={"Blur": {"p": [1.0, 0.0]}}, views=3)
    views = PairViews(contract(2), 16, preset="temporal", operations={"Blur": {"p": [1.0, 0.0]}})
    assert views.operations[-1] == Blur(p=(1.0, 0.0))


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ({"Fog": {}}, "Fog.*Haze"),
        ({"Haze": {"thick": 1}}, "Haze.*thick"),
        ({"Haze": {"p": 2.0}}, "p.*probability"),
        ({"Haze": {"depth": [1, 0]}}, "depth"),
    ],
)
def test_what_is_not_there(operations, words):
    with pytest.raises(InputError, match=words):
        PairViews(contract(2), 16, operations=operations)
