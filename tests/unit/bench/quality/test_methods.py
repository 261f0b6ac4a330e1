"""The methods of the quality benchmark on a small disc."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pfitre_service.bench.quality.cases import Case, Measurement, Scan, simulate
from pfitre_service.bench.quality.methods import (
    filtered_backprojection,
    heldout,
    one_pass,
    one_pass_and_data,
    physics,
    served,
    tuned_total_variation,
)
from pfitre_service.bench.quality.parameters import QualityParameters
from pfitre_service.prior.architectures import build
from pfitre_service.prior.network_prior import NetworkPrior
from pfitre_service.prior.parameters import TvParameters
from pfitre_service.prior.total_variation import TotalVariation
from pfitre_service.recon.operators.data_term import relative_residual
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.quality.similarity import psnr, ssim
from pfitre_service.recon.solvers.admm import IncrementalAdmm
from pfitre_service.recon.solvers.data_step import data_step

PARAMETERS = AdmmParameters(max_iterations=4)


def disc(shape, rng):
    z, y, x = np.ogrid[tuple(slice(-1, 1, 1j * n) for n in shape)]
    return (np.hypot(y - 0.1, x + 0.2) < 0.5 - 0.05 * z).astype(np.float32)


@pytest.fixture(scope="module")
def measured() -> tuple[Measurement, torch.Tensor]:
    return simulate(Case(Scan(100.0), "discs", 0, 90.0), disc, QualityParameters(size=32))


@pytest.fixture
def prior() -> NetworkPrior:
    """An untrained network changes nothing but negative values."""
    return NetworkPrior(build("pfitre-s"), "untrained")


def quality(truth: torch.Tensor):
    return lambda x: float(psnr(x, truth).mean())


def test_every_eighth_angle_is_held_out():
    assert heldout(20).nonzero().flatten().tolist() == [4, 12]


def test_tuned_total_variation_is_no_worse_than_any_weight_by_hand(measured):
    measurement, truth = measured
    data = measurement.accumulated()
    tuned = tuned_total_variation(data, (quality(truth), lambda x: float(ssim(x, truth).mean())), 60)
    assert not tuned.trials.at_edge(0)
    best = quality(truth)(tuned.pictures[0])
    assert best == pytest.approx(tuned.trials.scores[tuned.trials.best()][0])
    for weight in (0.02, 0.1, 0.5):
        admm = IncrementalAdmm(data, TotalVariation(TvParameters(weight=weight)))
        admm.solve(60)
        assert quality(truth)(admm.state.x) <= best + 0.05


def test_each_figure_of_total_variation_has_its_own_picture(measured):
    measurement, truth = measured
    figures = (quality(truth), lambda x: -float(x.abs().mean()))  # the second likes empty pictures best
    tuned = tuned_total_variation(measurement.accumulated(), figures, 5)
    assert figures[1](tuned.pictures[1]) > figures[1](tuned.pictures[0])
    assert figures[0](tuned.pictures[0]) > figures[0](tuned.pictures[1])


def split(measurement: Measurement):
    """Accumulators for the solver, and those of the held-out angles."""
    held = heldout(len(measurement.angles))
    return measurement.only(~held).accumulated(), measurement.only(held).accumulated()


def test_one_pass_of_an_untrained_network_lies_between_total_variation_and_the_data_step_from_it(measured, prior):
    data = measured[0].accumulated()
    answer, smooth = one_pass(*split(measured[0]), prior, PARAMETERS), prior.smooth
    step = data_step(data, smooth, PARAMETERS.rho * data.weight, smooth, PARAMETERS.cg_iterations)
    expected = torch.lerp(step, smooth, 1 / (1 + math.e)).clamp_min(0)
    assert torch.allclose(answer, expected, atol=1e-3)
    assert not torch.allclose(smooth, step, atol=1e-2)


def test_a_data_step_brings_one_pass_nearer_to_the_data(measured, prior):
    data = measured[0].accumulated()
    before = relative_residual(data, one_pass(*split(measured[0]), prior, PARAMETERS))
    assert relative_residual(data, one_pass_and_data(*split(measured[0]), prior, PARAMETERS)) < before


@pytest.mark.parametrize("learned", [True, False])
def test_what_is_served_leaves_the_accumulators_as_they_are(measured, prior, learned):
    measurement, _ = measured
    data, watched = split(measurement)
    before = data.b.clone(), data.angles, watched.b.clone(), watched.angles
    served(data, watched, prior if learned else None, PARAMETERS)
    assert torch.equal(data.b, before[0])
    assert torch.equal(watched.b, before[2])
    assert (data.angles, watched.angles) == (before[1], before[3])


@pytest.mark.parametrize("learned", [True, False])
def test_what_is_served_ends_with_all_angles(measured, prior, learned):
    """Those held out are fitted better than by a run that is never given them."""
    measurement, truth = measured
    data, watched = split(measurement)
    result = served(data, watched, prior if learned else None, PARAMETERS)
    everything = measurement.accumulated()
    assert result.shape == truth.shape
    assert relative_residual(watched, result) < relative_residual(watched, physics(data, PARAMETERS))
    assert quality(truth)(result) > quality(truth)(filtered_backprojection(measurement, everything))


def test_a_clean_full_scan_wants_less_smoothing_than_a_noisy_wedge(measured):
    def best_weight(measurement: Measurement, truth: torch.Tensor) -> float:
        trials = tuned_total_variation(measurement.accumulated(), (quality(truth),), 30).trials
        return trials.weight(trials.best())

    clean = simulate(Case(Scan(0.0), "discs", 0, 90.0), disc, QualityParameters(size=32, counts=1e9))
    assert best_weight(*clean) < best_weight(*measured)
