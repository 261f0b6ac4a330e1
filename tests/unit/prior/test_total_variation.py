"""The total-variation prox against closed forms and a slow reference."""

from __future__ import annotations

import math

import pytest
import torch

from pfitre_service.prior.parameters import TvParameters
from pfitre_service.prior.total_variation import (
    TotalVariation,
    adjoint_gradient,
    gradient,
    tv_prox,
)

SHAPES = [(4, 9, 10), (2, 12, 12), (1, 13, 12), (1, 1, 24)]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=SHAPES, ids=str)
def noisy(request, device):
    """A bright box in noise, partly negative."""
    generator = torch.Generator().manual_seed(5)
    v = 0.15 * torch.randn(request.param, generator=generator)
    v[..., request.param[2] // 4 : request.param[2] // 2] += 1.0
    return v.to(device)


def prox(v, strength, iterations):
    return tv_prox(v, strength, v.new_zeros(3, *v.shape), iterations=iterations)[0]


def total_variation(z):
    return float(gradient(z).square().sum(0).sqrt().sum())


def objective(z, v, strength):
    return 0.5 * float((z - v).double().square().sum()) + strength * total_variation(z)


def slow_prox(v, strength, iterations=4000):
    """Plain projected dual gradient in float64, without momentum, written for clarity alone."""
    v = v.double()
    p = torch.zeros(3, *v.shape, dtype=torch.float64, device=v.device)
    for _ in range(iterations):
        z = (v - strength * adjoint_gradient(p)).clamp_min(0)
        p = p + gradient(z) / (12 * strength)
        p = p / torch.linalg.vector_norm(p, dim=0).clamp_min(1)
    return (v - strength * adjoint_gradient(p)).clamp_min(0)


def test_gradient_and_its_adjoint_fit_each_other(noisy):
    p = torch.randn(3, *noisy.shape, generator=torch.Generator().manual_seed(0)).to(noisy.device)
    torch.testing.assert_close(
        (gradient(noisy).double() * p).sum(), (noisy.double() * adjoint_gradient(p)).sum(), rtol=1e-5, atol=1e-5
    )


def test_length_of_the_gradient_stays_below_what_the_step_assumes(noisy):
    x = torch.randn_like(noisy)
    for _ in range(50):
        x = adjoint_gradient(gradient(x))
        x /= x.norm()
    assert float(adjoint_gradient(gradient(x)).norm()) <= 12.0


@pytest.mark.parametrize("strength", [0.02, 0.1, 0.5])
def test_many_iterations_reach_the_slow_reference(noisy, strength):
    expected = slow_prox(noisy, strength)
    z = prox(noisy, strength, 600)
    assert float((z - expected).norm() / expected.norm()) < 2e-3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_step_loses_height_by_the_strength_over_the_width(axis):
    """In one direction the answer is known: each half moves towards the other by strength / width."""
    shape = [3, 3, 3]
    shape[axis] = 12
    v = torch.full(shape, 1.0)
    v.narrow(axis, 6, 6).fill_(2.0)
    z = prox(v, 0.6, 3000)
    torch.testing.assert_close(z.narrow(axis, 0, 6), torch.full_like(z.narrow(axis, 0, 6), 1.1), atol=2e-3, rtol=0)
    torch.testing.assert_close(z.narrow(axis, 6, 6), torch.full_like(z.narrow(axis, 6, 6), 1.9), atol=2e-3, rtol=0)


def test_total_variation_of_a_step_is_its_area():
    z = torch.zeros(2, 5, 6)
    z[:, :, 3:] = 2.0
    assert total_variation(z) == pytest.approx(2.0 * 2 * 5)


@pytest.mark.parametrize("strength", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("iterations", [1, 2, 5, 8, 30])
def test_objective_is_never_above_that_of_the_input(noisy, strength, iterations):
    v = noisy.clamp_min(0)
    z = prox(v, strength, iterations)
    assert objective(z, v, strength) <= objective(v, v, strength) * (1 + 1e-6)


def test_result_is_never_negative(noisy):
    for strength in (0.01, 0.3):
        assert float(prox(noisy - 0.4, strength, 8).min()) >= 0.0


def test_constants_stay():
    v = torch.full((3, 8, 8), 0.7)
    torch.testing.assert_close(prox(v, 0.3, 20), v)
    assert torch.equal(prox(-v, 0.3, 20), torch.zeros_like(v))


def test_slices_are_joined_across_the_slab():
    """It is one volume: a slice apart from its neighbours is drawn towards them."""
    v = torch.zeros(3, 8, 8)
    v[1] = 0.2
    assert float(prox(v, 0.2, 500)[1].max()) < 0.1
    assert float(prox(v[1:2], 0.2, 500).max()) == pytest.approx(0.2, abs=1e-3)


def test_volumes_far_apart_do_not_notice_each_other():
    generator = torch.Generator().manual_seed(1)
    v = torch.rand(2, 6, 6, generator=generator)
    joined = torch.zeros(2, 6, 24)
    joined[..., :6] = v
    # nothing couples the far end, which stays as it is
    assert torch.equal(prox(joined, 0.01, 3)[..., 12:], joined[..., 12:])


def test_kept_dual_converges_over_calls(noisy):
    expected = slow_prox(noisy, 0.1)
    prior = TotalVariation(TvParameters(weight=0.05, iterations=8))
    errors = [float((prior(noisy, 2.0) - expected).norm() / expected.norm()) for _ in range(60)]
    assert errors[-1] < 5e-3
    assert errors[-1] <= errors[4] <= errors[0]
    cold = TotalVariation(TvParameters(weight=0.05, iterations=8))
    assert float((cold(noisy, 2.0) - expected).norm() / expected.norm()) == pytest.approx(errors[0])


def test_dual_starts_anew_when_the_volume_has_another_shape():
    prior = TotalVariation()
    prior(torch.rand(2, 6, 6), 1.0)
    v = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prior(v, 1.0), TotalVariation()(v, 1.0))
    assert prior.dual is not None
    assert prior.dual.shape == (3, 3, 7, 7)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_weights_that_mean_nothing_are_refused(weight):
    with pytest.raises(ValueError, match="weight must be zero or positive"):
        TvParameters(weight=weight)


def test_iterations_start_at_one():
    with pytest.raises(ValueError, match="iterations must be at least 1"):
        TvParameters(iterations=0)
