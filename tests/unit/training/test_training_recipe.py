"""A recipe says what a training depends on, and refuses what cannot be trained."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from pfitre_service.errors import SettingsError
from pfitre_service.prior.network_prior import computes_in_bfloat16
from pfitre_service.training.command import choose_recipe
from pfitre_service.training.recipe import Recipe

CPU = torch.device("cpu")


def test_learning_rate_rises_stays_and_falls_to_zero():
    recipe = Recipe(updates=1000, warm_up=100, decay=0.3, learning_rate=1e-3)
    rates = [recipe.rate(update) for update in range(1001)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[:100] == sorted(rates[:100])
    assert set(rates[99:701]) == {1e-3}
    assert rates[700:] == sorted(rates[700:], reverse=True)
    assert rates[850] == pytest.approx(5e-4)
    assert rates[1000] == 0.0


def test_learning_rate_without_decay_stays():
    assert Recipe(updates=100, warm_up=1, decay=0.0).rate(99) == Recipe().learning_rate


def test_stage_two_begins_after_its_share_of_the_updates():
    recipe = Recipe(updates=100, stage_one=0.12)
    assert [recipe.stage(update) for update in (0, 11, 12, 99)] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("updates", 0),
        ("rounds", 1),
        ("known", 1.5),
        ("sizes", ()),
        ("sizes", ((8, 1.0),)),
        ("learning_rate", float("nan")),
        ("seed", -1),
        ("precision", "float16"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(field, value):
    with pytest.raises(SettingsError, match=field):
        Recipe(**{field: value})


def test_json_holds_every_field():
    document = json.loads(json.dumps(Recipe.gpu().as_json()))
    assert document.keys() == asdict(Recipe()).keys()
    assert document["sizes"][0] == list(Recipe.gpu().sizes[0])


def test_auto_precision_is_settled_by_the_device():
    expected = "bfloat16" if computes_in_bfloat16(CPU) else "float32"
    assert Recipe().on(CPU).precision == expected
    assert Recipe(precision="float32").on(torch.device("cuda")).precision == "float32"


def test_command_takes_the_recipe_for_the_device_and_what_was_asked_for():
    asked = {"architecture": None, "updates": None, "seed": 4}
    assert choose_recipe(CPU, smoke=False, **asked) == Recipe(seed=4)
    assert choose_recipe(torch.device("cuda"), smoke=False, **asked) == Recipe.gpu(seed=4)
    assert choose_recipe(torch.device("cuda"), smoke=True, **asked) == Recipe.smoke(seed=4)
    asked = {"architecture": "pfitre-m", "updates": 5, "seed": 0}
    assert choose_recipe(CPU, smoke=False, **asked) == Recipe(architecture="pfitre-m", updates=5)
