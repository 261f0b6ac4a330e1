"""The noise of a projection, from itself, against a twin that knows it."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.preprocess.noise import noise_energy
from pfitre_service.twin.families import HELD_BACK_FAMILIES
from pfitre_service.twin.imperfections import Imperfections, measure
from pfitre_service.twin.project import project


@pytest.mark.parametrize("shape", [(3, 1, 60), (3, 20, 40), (2, 100, 257)])
def test_white_noise_is_measured_whatever_the_shape(shape):
    noise = np.random.default_rng(1).normal(0, 0.03, shape).astype(np.float32)
    slope = np.linspace(0, 5, shape[2], dtype=np.float32)
    assert noise_energy(noise + slope).mean() == pytest.approx(0.03**2 * shape[1] * shape[2], rel=0.3)


@pytest.mark.parametrize("family", sorted(HELD_BACK_FAMILIES))
@pytest.mark.parametrize("dose", [300.0, 3000.0])
def test_noise_of_a_sample_s_projections_within_a_factor_of_two_in_amplitude(family, dose):
    rng = np.random.default_rng(3)
    fine = np.ascontiguousarray(HELD_BACK_FAMILIES[family]((32, 160, 160), rng), np.float32)
    perfect = project(fine, np.array([10.0, 50.0]), oversampling=2)
    noisy = measure(perfect, Imperfections(dose=dose), rng)
    true = np.square(noisy - perfect, dtype=np.float64).sum(axis=(1, 2))
    assert 0.5**2 < noise_energy(noisy).sum() / true.sum() < 2.0**2


def test_two_columns_say_nothing():
    assert np.isnan(noise_energy(np.ones((2, 4, 2), np.float32))).all()
