"""The cases are what the benchmark says of them: wedges, parts, orientations, noise; the same objects every time."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.bench.quality.cases import Scan, case_angles, cases, choose_families, draw_object, scans, simulate
from pfitre_service.bench.quality.parameters import STACK, QualityParameters
from pfitre_service.errors import InputError

SMALL = QualityParameters(size=32, slices=8, wedges=(0.0, 100.0), parts=(1 / 3,))
NAMES = ("discs", "bars", "dots", "rings", "sheets")


def disc(shape, rng):
    """A disc of random radius and value, a little off the middle, smaller from slice to slice."""
    z, y, x = np.ogrid[tuple(slice(-1, 1, 1j * n) for n in shape)]
    radius = rng.uniform(0.4, 0.6) - 0.05 * z
    return rng.uniform(0.5, 1.0) * (np.hypot(y - 0.1, x) < radius).astype(np.float32)


def some(missing=100.0, part=1.0, number=0, names=NAMES):
    return next(case for case in cases(SMALL, names) if case.scan == Scan(missing, part) and case.number == number)


def test_every_family_stands_in_every_scan_with_whole_objects():
    every = cases(SMALL, NAMES)
    assert len(every) == len(scans(SMALL)) * len(NAMES) * 2
    assert {case.scan for case in every} == {Scan(0.0), Scan(100.0), Scan(100.0, 1 / 3)}
    assert QualityParameters(slices=5).objects * STACK == 8


def test_half_of_the_objects_have_their_gap_at_90_degrees_and_the_others_each_elsewhere():
    orientations = [case.orientation for case in cases(SMALL, NAMES) if case.scan == Scan(100.0)]
    others = [orientation for orientation in orientations if orientation != 90]
    assert len(others) == len(orientations) // 2
    assert len(set(others)) == len(others)


def test_no_angle_lies_in_the_gap():
    for case in cases(SMALL, NAMES):
        angles = case_angles(case, 128)
        off = np.abs((angles - case.orientation + 90) % 180 - 90)
        assert off.min() >= case.scan.missing / 2 - 1e-9


def test_angles_are_one_a_degree_at_128_pixels_and_in_proportion_elsewhere():
    assert len(case_angles(some(0.0), 128)) == 180
    assert len(case_angles(some(100.0), 128)) == 80
    assert len(case_angles(some(100.0), 64)) == 40


def test_a_part_of_a_scan_is_its_first_angles():
    whole, third = case_angles(some(100.0), 128), case_angles(some(100.0, 1 / 3), 128)
    assert len(third) == 27
    assert np.array_equal(third, whole[:27])


def test_an_object_is_the_same_in_every_scan_and_unlike_its_sibling():
    first = draw_object(some(0.0), disc, SMALL)
    assert np.array_equal(first, draw_object(some(100.0, 1 / 3), disc, SMALL))
    assert not np.array_equal(first, draw_object(some(0.0, number=1), disc, SMALL))


def test_noise_is_that_of_the_photons_counted():
    counts = 1e4
    noisy, truth = simulate(some(), disc, QualityParameters(size=32, counts=counts))
    perfect, _ = simulate(some(), disc, QualityParameters(size=32, counts=1e12))
    largest = perfect.projections.max()
    relative = (noisy.projections - perfect.projections) / (perfect.projections * largest / counts).sqrt()
    assert float(relative[perfect.projections > 0.1 * largest].std()) == pytest.approx(1.0, rel=0.1)
    assert truth.shape == (STACK, 32, 32)
    assert noisy.geometry.volume_shape == (STACK, 32, 32)


def test_same_seed_same_measurement():
    assert simulate(some(), disc, SMALL)[0].projections.equal(simulate(some(), disc, SMALL)[0].projections)


def test_an_unknown_family_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="choose from discs"):
        choose_families(("squares",), {"discs": disc})
    assert choose_families((), {"discs": disc}) == {"discs": disc}


@pytest.mark.parametrize("wrong", [{"size": 16}, {"slices": 0}, {"wedges": (180.0,)}, {"parts": (1.0,)}, {"counts": 0}])
def test_conditions_that_cannot_be_measured_are_refused(wrong):
    with pytest.raises(InputError):
        QualityParameters(**wrong)
