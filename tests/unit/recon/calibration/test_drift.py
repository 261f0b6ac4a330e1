from __future__ import annotations

import numpy as np
import pytest
import torch

from pfitre_service.recon.calibration.detector_rows import binned, shifted_columns, without_noise
from pfitre_service.recon.calibration.drift import FEWEST_ANGLES, LEAST, find_shifts, without_gauge
from pfitre_service.twin.families import draw
from pfitre_service.twin.imperfections import shift_columns
from pfitre_service.twin.project import project

ANGLES = torch.arange(-42.0, 43.0, 1.0, dtype=torch.float64)
MIDDLE = 31.5


def scan(family, angles=ANGLES, noise=0.01):
    volume = draw(family, (32, 128, 128), np.random.default_rng(0))[10:22]
    rows = project(volume, angles.numpy())
    return rows + noise * rows.max() * np.random.default_rng(1).standard_normal(rows.shape).astype(np.float32)


def jitter(count, share=1 / 3):
    """(angle,) columns: up to two, on a share of the angles."""
    rng = np.random.default_rng(4)
    shifts = np.zeros(count, np.float32)
    struck = rng.permutation(count)[: round(share * count)]
    shifts[struck] = rng.uniform(-2, 2, len(struck))
    return shifts


@pytest.mark.parametrize("family", ["layered_chip", "battery_particle", "grains"])
def test_shifts_of_a_third_of_the_angles_are_found(family):
    shifts = jitter(len(ANGLES))
    rows = torch.from_numpy(shift_columns(scan(family), shifts))
    wanted = without_gauge(torch.from_numpy(shifts), ANGLES)
    error = (find_shifts(rows, ANGLES, MIDDLE) - wanted).abs()
    assert float(error.mean()) < 0.15
    assert float(error.mean()) < 0.4 * float(wanted.abs().mean())


@pytest.mark.parametrize("family", ["layered_chip", "battery_particle", "grains", "fibres", "grating"])
@pytest.mark.parametrize("step", [1, 4])
def test_a_clean_scan_stays_exactly_as_it_is(family, step):
    angles = ANGLES[::step]
    rows = torch.from_numpy(scan(family, angles, noise=0.02))
    assert not find_shifts(rows, angles, MIDDLE).any()


def test_few_angles_and_no_signal_give_no_shifts():
    assert not find_shifts(torch.zeros(len(ANGLES), 2, 64), ANGLES, MIDDLE).any()
    few = ANGLES[: FEWEST_ANGLES - 1]
    rows = torch.from_numpy(shift_columns(scan("grains", few), jitter(len(few))))
    assert not find_shifts(rows, few, MIDDLE).any()


def test_what_axis_and_sample_can_explain_is_no_drift():
    radians = torch.deg2rad(ANGLES)
    gauge = 3.0 - 2.0 * radians.cos() + 1.5 * radians.sin()
    jumps = torch.zeros_like(gauge)
    jumps[::3] = torch.linspace(-2, 2, len(jumps[::3]), dtype=torch.float64)
    assert float(without_gauge(gauge, ANGLES).abs().max()) < 1e-2
    assert float((without_gauge(gauge + jumps, ANGLES) - without_gauge(jumps, ANGLES)).abs().max()) < LEAST / 2
    assert float(without_gauge(gauge + jumps, ANGLES)[1::3].abs().max()) < LEAST / 2


def test_columns_move_exactly_and_lose_nothing_within_the_field(rng):
    smooth = torch.from_numpy(np.exp(-(((np.arange(64) - 30.0) / 4) ** 2)).astype(np.float32))
    there = torch.from_numpy(np.exp(-(((np.arange(64) - 33.4) / 4) ** 2)).astype(np.float32))
    torch.testing.assert_close(shifted_columns(smooth[None], torch.tensor([3.4]))[0], there, atol=1e-4, rtol=0)
    out = shifted_columns(torch.from_numpy(rng.normal(size=(1, 16)).astype(np.float32)), torch.tensor([-20.0]))
    assert float(out.abs().max()) < 1e-5


def test_binned_columns_are_means():
    rows = torch.arange(14.0).reshape(2, 7)
    assert binned(rows, 3).tolist() == [[1.0, 4.0], [8.0, 11.0]]


def test_the_noise_filter_takes_noise_and_leaves_the_sample(rng):
    clean = torch.from_numpy(scan("battery_particle", noise=0.0))
    noise = torch.from_numpy(rng.normal(scale=0.1 * float(clean.max()), size=clean.shape).astype(np.float32))
    assert float((without_noise(clean + noise) - clean).norm()) < 0.5 * float(noise.norm())
    assert float((without_noise(clean) - clean).norm()) < 0.02 * float(clean.norm())
