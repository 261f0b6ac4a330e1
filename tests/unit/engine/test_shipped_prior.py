"""The weights of the package on what they never saw: kinds of objects, sizes, units, and data that are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pfitre_service.bench.quality.cases import Case, Measurement, Scan, simulate
from pfitre_service.bench.quality.methods import heldout
from pfitre_service.bench.quality.parameters import QualityParameters
from pfitre_service.engine.reconstruct import Reconstruction, reconstruct
from pfitre_service.errors import InputError
from pfitre_service.prior.architectures import load_network
from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.prior.total_variation import TotalVariation
from pfitre_service.recon.quality.coverage import directional_coverage
from pfitre_service.recon.quality.similarity import psnr
from pfitre_service.recon.robust_scale import robust_scale
from pfitre_service.recon.solvers.pfitre import PfitreSolver
from pfitre_service.twin.families import HELD_BACK_FAMILIES
from pfitre_service.twin.project import bin_volume, project
from pfitre_service.twin.trajectories import wedge

pytestmark = pytest.mark.slow

WEIGHTS = "pfitre-s"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def held_back(family: str, *, size: int, missing: float, orientation: float = 90.0) -> tuple[Measurement, torch.Tensor]:
    """An object of a kind that training never saw, measured with noise, and the truth."""
    case = Case(Scan(missing), family, 0, orientation)
    return simulate(case, HELD_BACK_FAMILIES[family], QualityParameters(size=size))


def reconstructed(measurement: Measurement, *, factor: float = 1.0, prior: str = WEIGHTS) -> Reconstruction:
    return reconstruct(measurement.projections.numpy() * factor, measurement.angles.numpy(), prior=prior)


def quality(volume, truth: torch.Tensor) -> float:
    return float(psnr(torch.as_tensor(volume).clamp_min(0), truth).nanmean())


def told(measurement: Measurement, turned_by: int) -> torch.Tensor:
    """One answer of the network, told that the angles lay `turned_by` bins of 5 degrees from where they did."""
    held = heldout(len(measurement.angles))
    data, unseen = measurement.only(~held).accumulated(), measurement.only(held).accumulated()
    solver = PfitreSolver(data, unseen, classical=TotalVariation())
    for _ in range(12):
        solver.step()
    prior = load_network(WEIGHTS).prior()
    prior.observe(solver.physics.x, solver.z, directional_coverage(data, DIRECTIONS).roll(turned_by))
    return prior(solver.x, robust_scale(solver.x))


def test_told_the_wrong_coverage_it_does_clearly_worse():
    """Right and wrong differ by where the wedge is said to lie, and by nothing else."""
    gains = []
    for family in ("battery_particle", "catalyst", "cell"):
        measurement, truth = held_back(family, size=96, missing=100)
        gains.append(quality(told(measurement, 0), truth) - quality(told(measurement, DIRECTIONS // 2), truth))
    assert np.mean(gains) > 0.5
    assert min(gains) > 0


@pytest.mark.parametrize("family", ["battery_particle", "catalyst"])
def test_it_beats_total_variation_where_a_hundred_degrees_are_missing(family):
    measurement, truth = held_back(family, size=128, missing=100)
    result, classical = reconstructed(measurement), reconstructed(measurement, prior="tv")
    assert result.prior == WEIGHTS
    assert quality(result.volume, truth) > quality(classical.volume, truth) + 0.3


@pytest.mark.parametrize(("size", "orientation"), [(75, 33.0), (110, 171.0)])
def test_sizes_and_orientations_that_training_never_drew_are_better_than_physics_alone(size, orientation):
    measurement, truth = held_back("battery_particle", size=size, missing=90, orientation=orientation)
    result = reconstructed(measurement)
    assert result.volume.shape == (4, size, size)
    assert quality(result.volume, truth) > quality(result.physics, truth) + 1.0


def test_values_a_thousand_times_larger_give_a_volume_a_thousand_times_larger():
    measurement, _ = held_back("catalyst", size=64, missing=100)
    plain, large = reconstructed(measurement), reconstructed(measurement, factor=1000.0)
    assert large.prior == plain.prior
    difference = np.linalg.norm(large.volume / 1000 - plain.volume) / np.linalg.norm(plain.volume)
    assert difference < 1e-3  # the network may compute in bfloat16, whose steps are 4e-3 of a value


def test_frames_of_zeros_are_no_empty_sample_but_frames_never_written():
    with pytest.raises(InputError, match="0 usable of 20 stored"):
        reconstruct(np.zeros((20, 3, 64), np.float32), np.arange(-40.0, 40.0, 4.0), prior=WEIGHTS)


def test_a_constant_slice_comes_out_constant():
    angles = wedge(90, count=60)
    y, x = np.mgrid[:160, :160] - 79.5
    fine = np.repeat((np.hypot(y, x) < 70).astype(np.float32)[None], 4, axis=0)
    volume = reconstruct(project(fine, angles, oversampling=2), angles, prior=WEIGHTS).volume
    inside = np.hypot(*(np.mgrid[:80, :80] - 39.5)) < 28
    assert volume[:, inside].mean() == pytest.approx(bin_volume(fine, 2)[:, inside].mean(), rel=0.05)
    assert volume[:, inside].std() < 0.08


@pytest.mark.parametrize("noise", ["gaussian", "counts"])
def test_projections_of_nothing_but_noise_end_without_the_network_and_say_so(noise):
    rng = np.random.default_rng(8)
    shape = (60, 4, 80)
    rows = rng.normal(0, 1, shape) if noise == "gaussian" else rng.poisson(2, shape)
    angles = wedge(100, count=60)
    result = reconstruct(rows.astype(np.float32), angles, prior=WEIGHTS, measurement="line_integral")
    assert result.prior == "tv"
    assert any("dropped for total variation" in warning for warning in result.warnings)


def test_with_all_angles_it_is_as_good_as_total_variation():
    measurement, truth = held_back("cell", size=96, missing=0)
    result, classical = reconstructed(measurement), reconstructed(measurement, prior="tv")
    assert quality(result.volume, truth) > quality(classical.volume, truth) - 0.2


def test_slices_vary_along_the_stack_no_more_than_by_physics_alone():
    def variation(volume) -> float:
        means = volume.mean(axis=(1, 2))
        return float(means.std() / means.mean())

    case = Case(Scan(100.0), "battery_particle", 0, 90.0)
    measurement, _ = simulate(case, HELD_BACK_FAMILIES["battery_particle"], QualityParameters(size=96))
    result = reconstructed(measurement)
    assert variation(result.volume) < variation(result.physics) + 0.02
