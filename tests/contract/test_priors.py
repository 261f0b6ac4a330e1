"""What the solvers ask of every prior, and of those that learn about the tomogram or have a weight."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from pfitre_service.prior.architectures import load_network
from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.prior.network_prior import NetworkPrior
from pfitre_service.prior.parameters import TvParameters
from pfitre_service.prior.published_prior import PublishedPrior
from pfitre_service.prior.total_variation import TotalVariation
from pfitre_service.prior.zhao2025 import Zhao2025


@functools.cache
def shipped(device: str) -> torch.nn.Module:
    return load_network("pfitre-s", device).network


@functools.cache
def published(device: str) -> torch.nn.Module:
    """As published but for its weights, which nobody may ship."""
    torch.manual_seed(3)
    return Zhao2025().eval().requires_grad_(False).to(device)


@dataclass(frozen=True)
class Implementation:
    """How a prior is made on a device, and how many slices on either side an answer may depend on; None for all."""

    make: Callable[[str], TotalVariation | NetworkPrior | PublishedPrior]
    reach: int | None


PRIORS = {
    "TotalVariation": Implementation(lambda device: TotalVariation(), reach=TvParameters().iterations),
    "NetworkPrior": Implementation(
        lambda device: NetworkPrior(shipped(device), "pfitre-s", reduced_precision=False), reach=1
    ),
    "PublishedPrior": Implementation(lambda device: PublishedPrior(published(device), "zhao2025"), reach=None),
}
"""A new prior has a line here, and one in each of the lists below that it belongs to."""
LEARNED = ["NetworkPrior", "PublishedPrior"]
ADJUSTABLE = ["TotalVariation"]

SIZE, SCALE = 16, 0.5


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=PRIORS)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    return PRIORS[request.param]


@pytest.fixture
def prior(implementation, device, physics):
    """One that has been told of a tomogram, if it wants to be."""
    return told(implementation.make(device), physics)


@pytest.fixture(params=LEARNED)
def learned(request, device):
    return PRIORS[request.param].make(device)


@pytest.fixture(params=ADJUSTABLE)
def adjustable(request, device):
    return PRIORS[request.param].make(device)


def told(prior, physics):
    if hasattr(prior, "observe"):
        prior.observe(physics, physics.clamp_min(0), wedge(physics.device))
    return prior


def wedge(device) -> torch.Tensor:
    coverage = torch.zeros(DIRECTIONS, device=device)
    coverage[3:25] = 0.8
    return coverage


def noise(seed: int, device: str, slices: int = 3) -> torch.Tensor:
    """(slices, size, size), partly negative."""
    return (torch.rand(slices, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) - 0.2).to(device)


@pytest.fixture
def volume(device):
    return noise(2, device)


@pytest.fixture
def physics(device):
    return noise(3, device)


def test_the_answer_is_a_new_picture_of_the_same_kind_and_never_negative(prior, volume):
    given = volume.clone()
    answer = prior(volume, SCALE)
    assert (answer.shape, answer.dtype, answer.device) == (volume.shape, torch.float32, volume.device)
    assert not answer.is_inference(), "the solvers go on computing with it"
    assert bool(answer.isfinite().all())
    assert float(answer.min()) >= 0.0
    assert float((answer - volume.clamp_min(0)).abs().mean()) > 0.01 * SCALE, "a prior changes something"
    kept = answer.clone()
    volume.add_(1.0)
    assert torch.equal(answer, kept)
    assert torch.equal(volume, given + 1.0)


def test_what_is_negative_everywhere_becomes_no_less_than_zero(prior, volume):
    given = volume - 2.0
    before = given.clone()
    assert float(prior(given, SCALE).min()) >= 0.0
    assert torch.equal(given, before)


def test_two_tomograms_with_the_same_data_have_the_same_answer(implementation, device, volume, physics):
    first, second = (told(implementation.make(device), physics)(volume, SCALE) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("factor", [1000.0, 1e-6])
def test_the_answer_is_in_the_unit_of_the_picture(implementation, device, volume, physics, factor):
    answer = told(implementation.make(device), physics)(volume, SCALE)
    larger = told(implementation.make(device), factor * physics)(factor * volume, factor * SCALE)
    torch.testing.assert_close(larger / factor, answer, rtol=1e-4, atol=1e-5)


def test_without_a_scale_only_what_is_negative_is_cut(prior, volume):
    given = volume.clone()
    assert torch.equal(prior(volume, 0.0), volume.clamp_min(0))
    assert torch.equal(volume, given)


def test_an_empty_volume_without_a_scale_stays_empty(implementation, device):
    empty = torch.zeros(3, SIZE, SIZE, device=device)
    assert not told(implementation.make(device), empty)(empty, 0.0).any()


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-20])
def test_a_constant_volume_has_a_finite_answer(implementation, device, value):
    flat = torch.full((2, SIZE, SIZE), value, device=device)
    answer = told(implementation.make(device), flat)(flat, 1.0)
    assert bool(answer.isfinite().all())
    assert float(answer.max()) < 3.0


@pytest.mark.parametrize("slices", [1, 2])
def test_a_volume_of_another_size_is_answered_as_by_a_fresh_one(implementation, device, prior, volume, slices):
    """A scan may be cut anew between two calls."""
    prior(volume, SCALE)
    few, physics = noise(4, device, slices), noise(5, device, slices)
    answer = told(prior, physics)(few, SCALE)
    torch.testing.assert_close(answer, told(implementation.make(device), physics)(few, SCALE), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, each in PRIORS.items() if each.reach is not None])
def test_an_answer_depends_on_no_slice_further_than_stated(name, device):
    implementation = PRIORS[name]
    slices = implementation.reach + 3
    volume, physics = noise(6, device, slices), noise(7, device, slices)
    changed = volume.clone()
    changed[0] = 3.0
    before, after = (told(implementation.make(device), physics)(each, SCALE) for each in (volume, changed))
    assert not torch.equal(after[1], before[1])
    torch.testing.assert_close(after[implementation.reach + 1 :], before[implementation.reach + 1 :])


def test_a_learned_prior_names_itself_and_its_directions_and_leaves_what_it_is_told(learned, volume, physics):
    assert learned.name
    assert learned.directions >= 1
    shown = [physics, physics.clamp_min(0), wedge(physics.device)]
    before = [each.clone() for each in shown]
    learned.observe(*shown)
    learned(volume, SCALE)
    assert all(torch.equal(one, other) for one, other in zip(shown, before, strict=True))


@pytest.mark.parametrize("name", LEARNED)
def test_what_a_learned_prior_was_told_last_counts(name, device, volume, physics):
    prior, fresh = (PRIORS[name].make(device) for _ in range(2))
    told(prior, physics)(volume, SCALE)
    torch.testing.assert_close(told(prior, physics.flip(0))(volume, SCALE), told(fresh, physics.flip(0))(volume, SCALE))


def test_no_gradient_runs_through_a_learned_prior(learned, volume, physics):
    answer = told(learned, physics)(volume.requires_grad_(), SCALE)
    assert not answer.requires_grad


def test_an_adjustable_prior_of_another_weight_is_a_fresh_one(adjustable, volume):
    before = adjustable.weight
    adjustable(volume, SCALE)
    other = adjustable.of_weight(2 * before)
    assert (other.weight, adjustable.weight, type(other)) == (2 * before, before, type(adjustable))
    assert adjustable.adjustable
    torch.testing.assert_close(other(volume, SCALE), adjustable.of_weight(2 * before)(volume, SCALE))


def test_a_larger_weight_smooths_more_and_none_smooths_nothing(adjustable, volume):
    roughness = [
        float(adjustable.of_weight(weight)(volume, SCALE).diff(dim=-1).abs().sum()) for weight in (0.0, 0.1, 0.4, 1.6)
    ]
    assert roughness == sorted(roughness, reverse=True)
    assert roughness[-1] < 0.5 * roughness[0]
    assert torch.equal(adjustable.of_weight(0.0)(volume, SCALE), volume.clamp_min(0))
