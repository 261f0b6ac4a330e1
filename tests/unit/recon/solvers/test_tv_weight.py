"""The weight of a regulariser, chosen by held-out angles."""

from __future__ import annotations

import math

import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.prior.parameters import TvParameters
from pfitre_service.prior.total_variation import TotalVariation
from pfitre_service.recon.operators.data_term import relative_residual
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.solvers.admm import IncrementalAdmm
from pfitre_service.recon.solvers.tv_weight import WEIGHT_LIMITS, best_weight

SIZE = 32
PARAMETERS = AdmmParameters()


@pytest.fixture
def scan(disc, measure, split):
    """Builds accumulators (solved, held out) of six slices, four of them empty, at `noise`."""

    def build(noise: float) -> tuple[NormalEquations, NormalEquations]:
        geometry = ScanGeometry.from_detector(rows=6, columns=SIZE)
        slab = torch.zeros(6, SIZE, SIZE)
        slab[3:5] = disc(SIZE, 2)
        angles = torch.arange(-60.0, 60.0, 5.0, dtype=torch.float64)
        rows = measure(geometry, slab, angles, noise)
        return split(geometry, rows, angles, torch.arange(len(angles)) % 8 == 4)

    return build


def test_noise_asks_for_more_smoothing(scan):
    weights = [best_weight(*scan(noise), TotalVariation(), PARAMETERS) for noise in (0.0, 0.03, 0.2)]
    assert weights == sorted(weights)
    assert weights[0] < weights[-1]


def test_no_neighbouring_weight_foretells_the_held_out_angles_better(scan):
    data, heldout = scan(0.05)
    weight = best_weight(data, heldout, TotalVariation(), PARAMETERS)

    def error(weight: float) -> float:
        few = torch.arange(2, 6)
        admm = IncrementalAdmm(data.of_slices(few), TotalVariation(TvParameters(weight=weight)), PARAMETERS)
        for _ in range(12):
            admm.step()
        return relative_residual(heldout.of_slices(few), admm.state.x)

    assert error(weight) <= min(error(weight / 2), error(weight * 2))


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_unit_of_the_data_makes_no_difference(scan, factor):
    data, heldout = scan(0.05)
    expected = best_weight(data, heldout, TotalVariation(), PARAMETERS)
    for each in (data, heldout):
        each.b.mul_(factor)
        each.energy.mul_(factor**2)
    assert best_weight(data, heldout, TotalVariation(), PARAMETERS) == expected


def test_an_empty_tomogram_keeps_a_weight_within_the_limits(scan):
    data, heldout = scan(0.0)
    for each in (data, heldout):
        each.b.zero_()
        each.energy.zero_()
    weight = best_weight(data, heldout, TotalVariation(), PARAMETERS)
    assert math.isfinite(weight)
    assert WEIGHT_LIMITS[0] <= weight <= WEIGHT_LIMITS[1]


def test_nothing_that_it_is_given_changes(scan):
    data, heldout = scan(0.05)
    prior = TotalVariation()
    before = data.b.clone(), data.psf.clone(), heldout.b.clone(), prior.weight
    best_weight(data, heldout, prior, PARAMETERS)
    assert torch.equal(data.b, before[0])
    assert torch.equal(data.psf, before[1])
    assert torch.equal(heldout.b, before[2])
    assert (prior.weight, prior.dual) == (before[3], None)


def test_some_slices_of_accumulators_measure_what_all_of_them_do(scan):
    data, _ = scan(0.05)
    chosen = torch.tensor([4, 1])
    part = data.of_slices(chosen)
    x = torch.rand(6, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(part.normal(x[chosen]), data.normal(x)[chosen])
    assert torch.equal(part.b, data.b[chosen])
    assert (part.slices, part.angles, part.weight) == (2, data.angles, data.weight)
    part.add(torch.ones(1, 2, SIZE), torch.zeros(1, dtype=torch.float64))
    assert data.angles == part.angles - 1
