"""The footprint of a pixel against its definition: the shadow of a unit square on a column of width one."""

from __future__ import annotations

import math

import pytest
import torch

from pfitre_service.recon.operators.footprint import (
    UPSAMPLING,
    detector_length,
    footprint_spectrum,
    table_positions,
    upsampled,
)


@pytest.mark.parametrize("degrees", [0.0, 17.0, 45.0, 90.0, 123.0, -60.0])
def test_spectrum_is_that_of_a_square_seen_by_a_column(degrees):
    angle = math.radians(degrees)
    frequencies = torch.linspace(0, 0.49, 9, dtype=torch.float64)
    within = (torch.arange(60, dtype=torch.float64) + 0.5) / 60 - 0.5
    x, y, column = torch.meshgrid(within, within, within, indexing="ij")
    offset = x * math.cos(angle) + y * math.sin(angle) + column
    by_definition = torch.stack([torch.cos(2 * math.pi * f * offset).mean() for f in frequencies])
    torch.testing.assert_close(footprint_spectrum(angle, frequencies), by_definition, rtol=0, atol=5e-4)


def test_nothing_is_left_from_the_nyquist_frequency_on():
    assert torch.equal(footprint_spectrum(0.3, torch.tensor([0.5, 0.7, 1.0])), torch.zeros(3))


@pytest.mark.parametrize(("columns", "size", "axis"), [(64, 64, 31.5), (65, 65, 80.0), (64, 64, -20.0), (20, 90, 9.5)])
def test_the_periodic_detector_has_room_for_every_pixel_and_the_data(columns, size, axis):
    length = detector_length(columns, size, axis)
    reach = size / math.sqrt(2)
    assert length % 2 == 0
    assert length >= max(columns, axis + reach) - min(0, axis - reach)


def test_a_table_holds_the_function_between_its_samples():
    length = 32
    columns = torch.arange(length, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * 3 * columns / length)
    table = upsampled(torch.fft.rfft(wave), length)
    assert len(table) == length * UPSAMPLING
    places = torch.tensor([0.0, 0.5, 7.3, -4.25, 40.1])
    left, right, weight = table_positions(places.double(), length)
    torch.testing.assert_close(
        torch.lerp(table[left], table[right], weight.double()),
        torch.cos(2 * math.pi * 3 * places.double() / length),
        rtol=0,
        atol=1e-4,
    )
