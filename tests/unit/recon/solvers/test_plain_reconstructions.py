"""Filtered back-projection and SIRT, against ASTRA's and against what a disc must give."""

from __future__ import annotations

import astra
import numpy as np
import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.data_term import relative_residual
from pfitre_service.recon.operators.explicit import sirt
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.solvers.filtered_backprojection import FilteredBackprojection

HALF_A_TURN = torch.arange(0, 180, 2.0)


def middle(picture: torch.Tensor) -> torch.Tensor:
    size = picture.shape[-1]
    return picture[..., size // 2 - 4 : size // 2 + 4, size // 3 - 4 : size // 3 + 4]


@pytest.mark.parametrize(("size", "axis_offset"), [(64, 0.0), (65, 0.0), (64, 2.4)])
def test_filtered_backprojection_brings_a_disc_back_at_its_value(size, axis_offset, disc, measure, device):
    geometry = ScanGeometry.from_detector(rows=2, columns=size, axis=(size - 1) / 2 + axis_offset)
    preview = FilteredBackprojection(geometry, device=device)
    preview.add(measure(geometry, disc(size, 2), HALF_A_TURN), HALF_A_TURN)
    picture = preview.volume().cpu()
    assert float(middle(picture).mean()) == pytest.approx(1.0, abs=0.02)
    assert float(picture[:, :4, :4].abs().max()) < 0.06


def test_filtered_backprojection_adds_up_over_batches_and_shifts(disc, measure):
    geometry = ScanGeometry.from_detector(rows=1, columns=48)
    y = measure(geometry, disc(48), HALF_A_TURN)
    whole, parts = FilteredBackprojection(geometry), FilteredBackprojection(geometry)
    whole.add(y, HALF_A_TURN)
    shifts = torch.ones(len(HALF_A_TURN))
    parts.add(y[:31], HALF_A_TURN[:31])
    parts.add(y[31:].roll(1, dims=-1), HALF_A_TURN[31:], shifts=shifts[31:])
    assert parts.angles == whole.angles == len(HALF_A_TURN)
    torch.testing.assert_close(parts.volume(), whole.volume(), rtol=1e-3, atol=1e-3)


def test_a_missing_wedge_leaves_it_dark_and_the_gain_of_the_data_mends_that(disc, measure):
    geometry = ScanGeometry.from_detector(rows=1, columns=64)
    angles = torch.linspace(-40, 40, 41)
    y = measure(geometry, disc(64), angles)
    preview, data = FilteredBackprojection(geometry), NormalEquations(geometry)
    preview.add(y, angles)
    data.add(y, angles)
    best = relative_residual(data, preview.volume(data))
    assert best < relative_residual(data, preview.volume())
    for gain in (0.97, 1.03):
        assert best < relative_residual(data, gain * preview.volume(data))


def test_a_picture_of_nothing_is_zero():
    preview = FilteredBackprojection(ScanGeometry.from_detector(rows=2, columns=8))
    data = NormalEquations(ScanGeometry.from_detector(rows=2, columns=8))
    assert torch.equal(preview.volume(data), torch.zeros(2, 8, 8))


def test_sirt_reduces_the_residual_in_every_iteration(disc, measure, device):
    geometry = ScanGeometry.from_detector(rows=2, columns=32)
    angles = torch.linspace(-60, 60, 25)
    y = measure(geometry, disc(32, 2), angles, noise=0.01).to(device)
    data = NormalEquations(geometry, device=device)
    data.add(y, angles)
    residuals = [
        relative_residual(data, sirt(y, angles, geometry, iterations=n, nonnegative=False)) for n in (1, 2, 4, 8, 16)
    ]
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[-1] < 0.4 * residuals[0]


def test_sirt_is_not_negative_unless_asked(disc, measure):
    geometry = ScanGeometry.from_detector(rows=1, columns=32)
    angles = torch.linspace(-60, 60, 9)
    y = measure(geometry, disc(32), angles)
    assert float(sirt(y, angles, geometry, iterations=5).min()) >= 0
    assert float(sirt(y, angles, geometry, iterations=5, nonnegative=False).min()) < 0


@pytest.mark.parametrize("method", ["FBP", "SIRT"])
@pytest.mark.parametrize("angles", [HALF_A_TURN, torch.linspace(-65, 65, 66)], ids=["half a turn", "limited range"])
def test_plain_reconstructions_look_like_those_of_astra(method, angles, disc, measure):
    size, iterations = 48, 40
    geometry = ScanGeometry.from_detector(rows=1, columns=size)
    y = measure(geometry, disc(size), angles)
    if method == "FBP":
        preview = FilteredBackprojection(geometry)
        preview.add(y, angles)
        ours = preview.volume()
        options = {"FilterType": "hann"}
    else:
        ours = sirt(y, angles, geometry, iterations=iterations)
        options = {"MinConstraint": 0.0}
    theirs = astra_reconstruction(method, y[:, 0].numpy(), -np.deg2rad(angles.numpy()), size, options, iterations)
    assert np.corrcoef(ours[0].numpy().ravel(), theirs.ravel())[0, 1] > 0.98
    assert np.linalg.norm(ours[0].numpy() - theirs) < 0.2 * np.linalg.norm(theirs)


def astra_reconstruction(method, sinogram, radians, size, options, iterations):
    volume = astra.create_vol_geom(size, size)
    detector = astra.create_proj_geom("parallel", 1.0, sinogram.shape[1], radians)
    configuration = astra.astra_dict(method)
    configuration["ProjectorId"] = astra.create_projector("strip", detector, volume)
    configuration["ProjectionDataId"] = astra.data2d.create("-sino", detector, sinogram)
    configuration["ReconstructionDataId"] = astra.data2d.create("-vol", volume)
    configuration["option"] = options
    algorithm = astra.algorithm.create(configuration)
    astra.algorithm.run(algorithm, iterations if method == "SIRT" else 1)
    return astra.data2d.get(configuration["ReconstructionDataId"])
