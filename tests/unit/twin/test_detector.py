"""Noise and imperfections of the simulated detectors."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.preprocess import PreprocessParameters, References, to_line_integrals
from pfitre_service.twin.detector import Camera, CameraParameters, FluorescenceDetector

SHAPE = (60, 80)
ZERO = np.zeros(SHAPE, np.float32)


def test_counts_without_sample_have_the_dose_as_mean_and_as_variance():
    camera = Camera(SHAPE, CameraParameters(photons=900, dark_counts=0, dark_noise=0, flat_structure=0), seed=1)
    counts = np.stack([camera.projection(ZERO) for _ in range(40)]).astype(np.float64)
    assert counts.mean() == pytest.approx(900, rel=0.002)
    assert counts.var(axis=0, ddof=1).mean() == pytest.approx(900, rel=0.02)


def test_a_sample_dims_the_beam_by_its_exponential():
    camera = Camera(SHAPE, CameraParameters(photons=20_000, dark_counts=50), seed=1)
    thick = np.full(SHAPE, 2.0, np.float32)
    bright = camera.flat().mean() - 50
    assert (camera.projection(thick).mean() - 50) / bright == pytest.approx(np.exp(-2), rel=0.01)


def test_darks_have_the_offset_and_its_noise():
    darks = np.stack([Camera(SHAPE, CameraParameters(dark_counts=300, dark_noise=5), seed=s).dark() for s in range(5)])
    assert darks.mean() == pytest.approx(300, abs=0.2)
    assert darks.std() == pytest.approx(5, rel=0.03)


def test_the_flat_field_has_the_fixed_pattern_and_no_other():
    camera = Camera(SHAPE, CameraParameters(photons=30_000, dark_counts=0, dark_noise=0, flat_structure=0.3), seed=2)
    mean = np.mean([camera.flat() for _ in range(50)], axis=0)
    np.testing.assert_allclose(mean / 30_000, camera.pattern, rtol=0.006)
    assert camera.pattern.mean() == pytest.approx(1, rel=1e-5)
    assert 0.02 < camera.pattern.std() < 0.3


def test_frames_are_uint16_and_saturate_instead_of_wrapping():
    camera = Camera(SHAPE, CameraParameters(photons=90_000, flat_structure=0), seed=0)
    frame = camera.flat()
    assert frame.dtype == np.uint16
    assert (frame == 65535).all()


def test_the_seed_decides_the_frames():
    def frames(seed: int) -> np.ndarray:
        camera = Camera(SHAPE, seed=seed)
        return np.stack([camera.dark(), camera.flat(), camera.projection(ZERO)])

    np.testing.assert_array_equal(frames(5), frames(5))
    assert (frames(5) != frames(6)).any()


def test_dead_and_hot_pixels_stay_where_they_are():
    camera = Camera(SHAPE, CameraParameters(dead_share=0.01, hot_share=0.02), seed=3)
    frames = [camera.flat(), camera.projection(ZERO), camera.dark()]
    dead, hot = frames[0] == 0, frames[0] == 65535
    assert 20 < np.count_nonzero(dead) < 90
    assert 50 < np.count_nonzero(hot) < 150
    for frame in frames[1:]:
        np.testing.assert_array_equal(frame == 0, dead)
        np.testing.assert_array_equal(frame == 65535, hot)


def test_preprocessing_undoes_the_camera_up_to_its_noise():
    camera = Camera(SHAPE, CameraParameters(photons=20_000, dead_share=0.002, hot_share=0.002), seed=4)
    smooth = np.tile(1.5 * np.hanning(SHAPE[1]), (SHAPE[0], 1)).astype(np.float32)
    flats, darks = (np.stack([take() for _ in range(20)]) for take in (camera.flat, camera.dark))
    images = np.stack([camera.projection(smooth) for _ in range(4)])
    result = to_line_integrals(images, References.from_frames(flats, darks), PreprocessParameters(), "transmission")
    assert result.repaired > 0
    assert not result.unusable.any()
    error = result.values - smooth
    assert abs(error.mean()) < 0.002
    assert error.std() < 1.5 * np.sqrt(np.mean(np.exp(smooth)) / 20_000)
    assert np.abs(error).max() < 0.25


def test_fluorescence_has_the_line_integral_as_mean_and_shot_noise():
    detector = FluorescenceDetector(counts_per_unit=500, seed=0)
    frames = np.stack([detector.projection(np.full(SHAPE, 3.0, np.float32)) for _ in range(30)])
    assert frames.dtype == np.float32
    assert frames.mean() == pytest.approx(3, rel=0.002)
    assert frames.var() == pytest.approx(3 / 500, rel=0.02)


def test_nonsense_parameters_are_refused():
    with pytest.raises(InputError, match="photons above 0"):
        CameraParameters(photons=0)
    with pytest.raises(InputError, match="between 0 and 1"):
        CameraParameters(dead_share=1.5)
    with pytest.raises(InputError, match="more than 0 counts"):
        FluorescenceDetector(counts_per_unit=float("nan"))
