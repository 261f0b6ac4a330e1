"""The steps between counts and line integrals that a profile turns on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pfitre_service.errors import InputError, SettingsError
from pfitre_service.model import ScanGeometry
from pfitre_service.preprocess import PreprocessParameters, References, region_geometry, to_line_integrals
from pfitre_service.preprocess.parameters import PhaseParameters
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.solvers.filtered_backprojection import FilteredBackprojection
from pfitre_service.twin.particle import battery_particle
from pfitre_service.twin.project import project

COLUMNS = 64
ANGLES = np.arange(0.0, 180.0, 2.0)
BEAM = 1000.0


def line_integrals() -> np.ndarray:
    """(angle, row, column) up to 2, with air at both sides."""
    volume = battery_particle((32, 2 * COLUMNS, 2 * COLUMNS), seed=1)[8:24]
    clean = project(volume, ANGLES, columns=COLUMNS + 16)
    return 2 * clean / clean.max()


def flats(shape: tuple[int, ...], level: float = BEAM) -> References:
    return References.from_frames(np.full((3, *shape), level), np.zeros((3, *shape)))


def picture(values: np.ndarray, geometry: ScanGeometry) -> np.ndarray:
    result = FilteredBackprojection(geometry)
    result.add(torch.from_numpy(values), torch.from_numpy(ANGLES))
    return result.volume().numpy()


def test_a_binned_cropped_scan_gives_the_binned_cropped_volume():
    truth = line_integrals()
    _, rows, columns = truth.shape
    whole = ScanGeometry.from_detector(rows=rows, columns=columns, pixel_size_nm=50.0)
    parameters = PreprocessParameters(rows=(2, 6), columns=(8, columns - 8), bin=2)
    geometry = region_geometry(whole, parameters)
    part = to_line_integrals(BEAM * np.exp(-truth), flats(truth.shape[1:]), parameters, "transmission").values
    assert (geometry.rows, geometry.columns, geometry.size, geometry.pixel_size_nm) == (2, 32, 32, 100.0)
    assert part.shape == (len(ANGLES), 2, 32)
    volume = picture(truth, whole)[2:6, 8:-8, 8:-8]
    expected = volume.reshape(2, 2, 32, 2, 32, 2).mean(axis=(1, 3, 5)) * 2  # attenuation of a pixel twice as large
    # The preview's filter smooths over the larger pixels as it did over the small ones, so edges differ by that.
    assert np.linalg.norm(picture(part, geometry) - expected) < 0.12 * np.linalg.norm(expected)
    shifted = ScanGeometry.from_detector(rows=2, columns=32, axis=geometry.axis + 1)
    assert np.linalg.norm(picture(part, shifted) - expected) > 0.2 * np.linalg.norm(expected)


def test_the_axis_follows_region_and_bins_to_the_middle_of_the_same_place():
    parameters = PreprocessParameters(columns=(10, 40), bin=3)
    geometry = region_geometry(ScanGeometry.from_detector(rows=9, columns=50, axis=26.0), parameters)
    assert geometry.axis == 5.0  # column 26 is the middle of 25, 26, 27: the sixth three of those from 10 on
    assert (geometry.rows, geometry.columns) == (3, 10)


@pytest.mark.parametrize("wrong", [{"columns": (0, 51)}, {"rows": (8, 12)}, {"rows": (2, 4), "bin": 3}])
def test_a_region_outside_the_frames_or_smaller_than_a_pixel_is_refused(wrong):
    parameters = PreprocessParameters(**wrong)
    with pytest.raises(InputError, match=r"preprocess\.rows"):
        region_geometry(ScanGeometry.from_detector(rows=9, columns=50), parameters)
    with pytest.raises(InputError, match=r"preprocess\.rows"):
        to_line_integrals(np.ones((1, 9, 50)), None, parameters, "line_integral")


def test_outliers_are_repaired_and_counted_and_noise_is_not():
    truth = line_integrals()[:8]
    random = np.random.default_rng(0)
    counts = random.poisson(BEAM * np.exp(-truth)).astype(np.float64)
    struck = random.random(counts.shape) < 0.002
    parameters = PreprocessParameters(outlier_sigmas=10)
    quiet = to_line_integrals(counts, flats(truth.shape[1:]), parameters, "transmission")
    assert quiet.repaired == 0
    hit = to_line_integrals(np.where(struck, 4 * BEAM, counts), flats(truth.shape[1:]), parameters, "transmission")
    assert hit.repaired == np.count_nonzero(struck)
    assert np.abs(hit.values - truth)[struck].max() < 0.4
    np.testing.assert_array_equal(hit.values[~struck], quiet.values[~struck])


def test_a_flash_in_the_only_flat_makes_no_hole():
    truth = line_integrals()[:2]
    flat = np.random.default_rng(0).poisson(BEAM, truth.shape[1:]).astype(np.float64)
    flat[3, 30] = 60 * BEAM
    parameters = PreprocessParameters(outlier_sigmas=10)
    references = References.from_frames(flat[None], np.zeros((1, *flat.shape)), parameters)
    assert np.argwhere(~references.valid).tolist() == [[3, 30]]


def test_air_beside_the_sample_follows_the_beam_and_weighs_the_frame():
    truth = line_integrals()[:3]
    intensity = np.array([1.0, 0.25, 2.0])
    counts = BEAM * intensity[:, None, None] * np.exp(-truth)
    result = to_line_integrals(counts, flats(truth.shape[1:]), PreprocessParameters(air_columns=4), "transmission")
    np.testing.assert_allclose(result.values, truth, atol=1e-5)
    np.testing.assert_allclose(result.weights, intensity, rtol=1e-5)
    even = PreprocessParameters(air_columns=4, weights="off")
    assert to_line_integrals(counts, flats(truth.shape[1:]), even, "transmission").weights.tolist() == [1, 1, 1]
    untold = to_line_integrals(counts, flats(truth.shape[1:]), PreprocessParameters(), "transmission")
    assert untold.weights.tolist() == [1, 1, 1]


def test_weights_by_photons_bring_the_volume_of_an_uneven_dose_nearer_to_that_of_an_endless_one():
    truth = line_integrals()
    geometry = ScanGeometry.from_detector(rows=truth.shape[1], columns=truth.shape[2])
    intensity = np.where(np.arange(len(ANGLES)) % 3 == 0, 1.0, 0.05)
    random = np.random.default_rng(0)
    counts = random.poisson(3e4 * intensity[:, None, None] * np.exp(-truth))
    errors = {}
    ideal = solved(truth, np.ones(len(ANGLES), np.float32), geometry)
    for weights in ("counts", "off"):
        parameters = PreprocessParameters(air_columns=4, weights=weights)
        result = to_line_integrals(counts, flats(truth.shape[1:], 3e4), parameters, "transmission")
        errors[weights] = float(np.linalg.norm(solved(result.values, result.weights, geometry) - ideal))
    assert errors["counts"] < 0.9 * errors["off"]


def solved(values: np.ndarray, weights: np.ndarray, geometry: ScanGeometry) -> np.ndarray:
    data = NormalEquations(geometry)
    data.add(torch.from_numpy(values), torch.from_numpy(ANGLES), weights=torch.from_numpy(weights))
    return tikhonov(data)


def tikhonov(data: NormalEquations) -> np.ndarray:
    from pfitre_service.recon.solvers.data_step import data_step

    zero = torch.zeros_like(data.b)
    return data_step(data, zero, 2.0 * data.weight, zero, 20).numpy()


PHASE = PhaseParameters(delta_over_beta=300.0, energy_kev=20.0, distance_mm=10.0, pixel_size_nm=650.0)


def fringes(transmission: np.ndarray, bin: int = 1) -> np.ndarray:
    """What the transport of intensity makes of the shadow of one material: Paganin et al. 2002, eq. 7."""
    reach = math.pi * 1.2398419843 / 20.0 * 10e6 * 300.0 / (650.0 * bin) ** 2
    v, u = (
        np.fft.fftfreq(length)[:, None] if axis == 0 else np.fft.fftfreq(length)[None]
        for axis, length in enumerate(transmission.shape)
    )
    return np.fft.ifft2(np.fft.fft2(transmission) * (1 + reach * (u**2 + v**2))).real


def blob(rows: int = 60, columns: int = 71, width: float = 7.0) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return np.exp(-((y - rows / 2) ** 2 + (x - columns / 2) ** 2) / width**2)


def test_phase_retrieval_turns_fringes_into_the_line_integrals_of_one_material():
    shadow = np.exp(-blob())
    parameters = PreprocessParameters(phase=PHASE)
    seen = BEAM * fringes(shadow)[None]
    with_fringes = to_line_integrals(seen, flats(shadow.shape), PreprocessParameters(), "transmission").values[0]
    assert np.abs(with_fringes - blob()).max() > 0.3
    result = to_line_integrals(seen, flats(shadow.shape), parameters, "transmission")
    np.testing.assert_allclose(result.values[0], blob(), atol=2e-3)


def test_phase_retrieval_knows_of_bins():
    parameters = PreprocessParameters(phase=PHASE, bin=2)
    shadow = np.exp(-blob(30, 36, 4.0))
    seen = BEAM * np.kron(fringes(shadow, bin=2), np.ones((2, 2)))[None]
    result = to_line_integrals(seen, flats(seen.shape[1:]), parameters, "transmission")
    np.testing.assert_allclose(result.values[0], blob(30, 36, 4.0), atol=2e-3)


def test_phase_retrieval_without_energy_distance_or_pixel_size_is_refused():
    with pytest.raises(SettingsError, match=r"preprocess\.phase"):
        PhaseParameters(delta_over_beta=100.0, energy_kev=20.0)
    with pytest.raises(SettingsError, match=r"preprocess\.phase"):
        PhaseParameters(delta_over_beta=float("nan"))


@pytest.mark.parametrize("wrong", [{"rows": (4, 4)}, {"columns": (-1, 3)}, {"bin": 0}, {"outlier_sigmas": math.nan}])
def test_settings_of_no_meaning_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        PreprocessParameters(**wrong)
