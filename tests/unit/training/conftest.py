"""Recipes that train in seconds, and one thread, so that tests may run side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from pfitre_service.prior import registry
from pfitre_service.prior.architectures import ARCHITECTURES
from pfitre_service.prior.network import NetworkShape, PfitreNet
from pfitre_service.training.recipe import Recipe
from pfitre_service.training.run import TrainingResult, train

FAMILIES = ("dead_leaves", "porous")
HELD_BACK = ("cell",)
SHAPE = NetworkShape(
    channels=(8,) * 5,
    growth=(4,) * 5,
    dilations=((1,), (1, 2), (1, 2), (1,), (1,)),
    blocks_down=(1,) * 5,
    blocks_up=(1,) * 4,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)  # which a training sets


TINY = Recipe(
    updates=7,
    stage_one=0.3,
    rounds=3,
    warm_up=2,
    known=0.5,
    sizes=((32, 1.0),),
    pixels=2 * 4 * 32**2,
    precision="float32",
    validate_every=4,
    validation_size=32,
    validation_objects=1,
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A few updates of a narrow `pfitre-s` on slices of 32 pixels, in both stages."""
    monkeypatch.setitem(ARCHITECTURES, "pfitre-s", lambda: PfitreNet(SHAPE))
    return TINY


@dataclass(frozen=True)
class Trained:
    """A training that nothing stopped, and what it told on its way."""

    result: TrainingResult
    events: list[Any]


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The training of `tiny`, for all tests that hold another one against it."""
    events: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "pfitre-s", lambda: PfitreNet(SHAPE))
        patch.setattr(registry, "PACKAGE_FOLDER", tmp_path_factory.mktemp("package"))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        folder = tmp_path_factory.mktemp("training") / "straight"
        result = train(TINY, folder, families=FAMILIES, held_back=HELD_BACK, on_progress=events.append)
        torch.set_num_threads(threads)
    return Trained(result, events)


@pytest.fixture
def families() -> tuple[str, ...]:
    return FAMILIES


@pytest.fixture
def held_back() -> tuple[str, ...]:
    return HELD_BACK
