"""The axis from the projections alone; `found` says how far it may be off in columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pfitre_service.recon.calibration.rotation_axis import find_axis, leverage
from pfitre_service.twin.beamlines.raster_sample import raster_sample
from pfitre_service.twin.families import draw
from pfitre_service.twin.imperfections import shift_columns
from pfitre_service.twin.project import project
from pfitre_service.twin.recordings import cu23

WEDGE = np.arange(-40.0, 41.0, 2.0)
HALF_TURN = np.arange(0.0, 181.0, 3.0)


def scan(family, angles, axis, *, noise=0.01, columns=64, lost=0, seed=0):
    """Six rows of a phantom, `lost` columns cut off on both sides: (angle, row, column) and angles, as tensors."""
    volume = draw(family, (32, 2 * columns, 2 * columns), np.random.default_rng(seed))[10:22]
    rows = project(volume, angles, columns=columns, axis=axis + lost)
    rows += noise * rows.max() * np.random.default_rng(1).standard_normal(rows.shape).astype(np.float32)
    return torch.from_numpy(rows[:, :, lost : columns - lost].copy()), torch.from_numpy(np.asarray(angles))


@pytest.mark.parametrize("family", ["layered_chip", "battery_particle", "grains", "grating", "weave"])
def test_a_wedge_of_missing_angles_does_not_hide_it(family):
    found = find_axis(*scan(family, WEDGE, 33.3))
    assert found.doubt == ""
    assert found.axis == pytest.approx(33.3, abs=0.9)
    assert found.uncertainty < 1.0


@pytest.mark.parametrize(("columns", "axis"), [(63, 33.2), (64, 29.6)])
def test_half_a_turn_gives_it_to_a_fraction_of_a_column(columns, axis):
    found = find_axis(*scan("battery_particle", HALF_TURN, axis, columns=columns))
    assert found.axis == pytest.approx(axis, abs=0.3)
    assert found.uncertainty < 0.3


def test_a_handful_of_angles_is_enough_where_they_span_enough():
    found = find_axis(*scan("battery_particle", np.arange(-40.0, 41.0, 8.0), 29.0))
    assert found.axis == pytest.approx(29.0, abs=1.0)


def test_noise_does_not_draw_it_to_the_middle():
    found = find_axis(*scan("layered_chip", np.arange(-40.0, 41.0, 1.0), 33.5, noise=0.1))
    assert found.axis == pytest.approx(33.5, abs=1.0)


def test_known_shifts_are_taken_into_account():
    rows, angles = scan("battery_particle", HALF_TURN, 33.0)
    shifts = np.random.default_rng(2).uniform(-2, 2, len(angles))
    moved = torch.from_numpy(shift_columns(rows.numpy(), shifts.astype(np.float32)))
    assert find_axis(moved, angles, shifts=torch.from_numpy(shifts)).axis == pytest.approx(33.0, abs=0.3)


@pytest.mark.parametrize(
    ("angles", "said"),
    [(np.arange(7.0), "7 angles are too few"), (np.arange(-20.0, 20.0), "the angles span too little")],
)
def test_too_few_degrees_say_nothing_and_it_is_said(angles, said):
    found = find_axis(*scan("battery_particle", angles, 35.0))
    assert found.axis == 31.5
    assert found.uncertainty == float("inf")
    assert said in found.doubt


def test_a_sample_out_of_the_field_of_view_needs_mirrored_projections():
    without, pairs = (scan("grains", angles, 23.2, lost=10) for angles in (WEDGE, HALF_TURN))
    assert "reaches out of the field of view" in find_axis(*without).doubt
    assert find_axis(*pairs).axis == pytest.approx(23.2, abs=0.5)


def test_empty_projections_give_the_middle():
    found = find_axis(torch.zeros(20, 2, 32), torch.linspace(0.0, 170.0, 20))
    assert found.axis == 15.5
    assert found.doubt


def test_the_real_tilt_series_has_its_minimum_near_the_middle():
    recording = cu23()
    found = find_axis(torch.from_numpy(recording.projections[:, 5::12].copy()), torch.from_numpy(recording.angles))
    assert found.axis == pytest.approx(74.5, abs=0.6)


def test_leverage_is_what_a_moved_sample_cannot_explain_of_a_wrong_axis():
    assert leverage(torch.linspace(0.0, 360.0, 361)[:-1]) == pytest.approx(1.0)
    assert leverage(torch.tensor([10.0, 20.0])) == pytest.approx(0.0, abs=1e-6)
    assert leverage(torch.arange(-40.0, 41.0)) < leverage(torch.arange(-60.0, 61.0))


@pytest.mark.timeout(120)
def test_a_search_whose_residual_falls_to_either_side_ends_in_doubt():
    """One angle of thirteen was taken with the sample moved: from one edge the residual falls back to the other."""
    sample = raster_sample(rows=16, columns=64, angles=20)
    maps = sample.maps["Fe"][:13, :8].copy()
    maps[3] = np.roll(maps[3], 5, axis=1)
    assert "the edge of the search" in find_axis(torch.from_numpy(maps), torch.from_numpy(sample.angles[:13])).doubt
