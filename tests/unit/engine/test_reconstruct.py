from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import pfitre_service
from pfitre_service.config import Settings
from pfitre_service.engine.reconstruct import reconstruct
from pfitre_service.errors import InputError, SettingsError
from pfitre_service.model import HeldOut
from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.recon.parameters import CalibrationParameters
from pfitre_service.recon.quality.similarity import psnr
from pfitre_service.twin.chip import layered_chip
from pfitre_service.twin.imperfections import shift_columns
from pfitre_service.twin.project import bin_volume, project


def test_a_stored_scan_becomes_a_volume_with_its_history(integrals, angles, truth):
    seen = []
    result = reconstruct(integrals, angles, prior="tv", device="cpu", on_progress=seen.append)
    assert (
        result.volume.shape
        == result.physics.shape
        == result.expected_error.shape
        == result.preview.shape
        == truth.shape
    )
    assert result.volume.dtype == np.float32
    assert tuple(seen) == result.history
    assert result.history[-1].phase == "final"
    assert 0 < result.heldout_error < result.history[-1].heldout_error_physics
    assert (result.prior, result.warnings) == ("tv", ())
    assert np.linalg.norm(result.volume - truth) < np.linalg.norm(result.preview - truth)


def test_it_is_what_the_package_offers(integrals, angles):
    assert pfitre_service.reconstruct is reconstruct


def test_lists_and_integers_are_taken_as_well(integrals, angles):
    result = pfitre_service.reconstruct((1000 * integrals).astype(int).tolist(), angles.tolist(), iterations=2)
    assert np.isfinite(result.volume).all()


def test_iterations_limit_the_steps_of_each_phase(integrals, angles):
    result = reconstruct(integrals, angles, iterations=2, device="cpu")
    assert len(result.history) <= 1 + 2 + 2
    assert result.history[-1].phase == "final"


def test_the_axis_that_is_given_is_used(integrals, angles, truth):
    middle = reconstruct(integrals, angles, iterations=2, device="cpu")
    moved = reconstruct(integrals, angles, axis=18.0, iterations=2, device="cpu")
    assert middle.geometry.axis == 15.5
    assert moved.geometry.axis == 18.0
    assert moved.heldout_error > middle.heldout_error
    assert np.linalg.norm(moved.volume - truth) > 2 * np.linalg.norm(middle.volume - truth)


@pytest.fixture(scope="module")
def chip():
    """A chip on fine voxels with room around it, the angles of a wedge, and the chip's volume."""
    fine = np.pad(layered_chip((24, 128, 128)) * np.float32(0.05), ((0, 0), (20, 20), (20, 20)))
    return fine, np.arange(-42.0, 43.0), bin_volume(fine, 2)


def registered_psnr(volume, truth):
    """The best over moves along the beam's cross direction: where a sample stands is nobody's to know."""
    return max(
        float(psnr(ndimage.shift(volume, (0, 0, x), order=3), truth, region="volume"))
        for x in np.arange(-1, 1.01, 0.25)
    )


@pytest.mark.slow
def test_a_wrong_axis_and_jitter_cost_little(chip):
    fine, angles, truth = chip
    rng = np.random.default_rng(3)
    jitter = np.zeros(len(angles), np.float32)
    jitter[rng.permutation(len(angles))[:28]] = rng.uniform(-2, 2, 28)
    clean = project(fine, angles)
    noise = rng.normal(scale=0.01 * clean.max(), size=clean.shape).astype(np.float32)
    spoilt = shift_columns(project(fine, angles, axis=41.5 + 3), jitter)
    middle = Settings(calibration=CalibrationParameters(drift=False, rotation_axis="middle"))
    options = {"prior": "tv", "device": "cpu", "iterations": 12}
    best = reconstruct(clean + noise, angles, axis=41.5, **options)
    untouched = reconstruct(spoilt + noise, angles, settings=middle, **options)
    recovered = reconstruct(spoilt + noise, angles, **options)
    assert best.calibration.shifts == ()
    assert recovered.calibration.axis_origin == "found"
    assert recovered.geometry.axis == pytest.approx(44.5, abs=0.7)
    assert registered_psnr(untouched.volume, truth) < registered_psnr(best.volume, truth) - 2
    assert registered_psnr(recovered.volume, truth) > registered_psnr(best.volume, truth) - 1


def test_an_axis_in_the_settings_wins(integrals, angles):
    settings = Settings(calibration=CalibrationParameters(rotation_axis=17.0))
    result = reconstruct(integrals, angles, axis=15.5, iterations=1, device="cpu", settings=settings)
    assert (result.geometry.axis, result.calibration.axis_origin) == (17.0, "given")


def test_counts_with_flats_and_darks_give_the_volume_of_their_line_integrals(integrals, angles):
    counts = 100 + 5000 * np.exp(-integrals)
    flats, darks = np.full((3, *counts.shape[1:]), 5100.0), np.full((3, *counts.shape[1:]), 100.0)
    wanted = reconstruct(integrals, angles, prior="none", iterations=5, device="cpu").volume
    got = reconstruct(counts, angles, prior="none", iterations=5, device="cpu", flats=flats, darks=darks).volume
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_region_and_bins_make_a_smaller_volume_about_the_same_axis(integrals, angles):
    settings = Settings(preprocess=PreprocessParameters(rows=(2, 6), columns=(4, 32), bin=2))
    result = reconstruct(integrals, angles, axis=15.5, prior="none", iterations=2, device="cpu", settings=settings)
    assert result.volume.shape == (2, 14, 14)
    assert (result.geometry.axis, result.calibration.axis) == (5.5, 15.5)


def test_an_axis_that_is_found_is_told_in_columns_of_the_projections(particle):
    angles = np.arange(0.0, 180.0, 6.0)
    rows = project(particle, angles, axis=17.0)
    settings = Settings(preprocess=PreprocessParameters(columns=(4, 32)))
    result = reconstruct(rows, angles, prior="none", iterations=2, device="cpu", settings=settings)
    assert result.calibration.axis_origin == "found"
    assert result.calibration.axis == pytest.approx(17.0, abs=0.5)
    assert result.calibration.axis == pytest.approx(4 + result.geometry.axis)


@pytest.mark.slow
def test_stripes_are_found_before_frames_are_added(particle):
    angles = np.arange(0.0, 180.0, 4.0)
    clean = project(particle, angles)
    striped = clean.copy()
    striped[:, 3, 10] += 0.3
    options = {"prior": "none", "iterations": 5, "device": "cpu"}
    wanted, got = (reconstruct(values, angles, **options) for values in (clean, striped))
    left = reconstruct(striped, angles, **options, settings=Settings(preprocess=PreprocessParameters(stripes="off")))
    assert np.linalg.norm(got.volume - wanted.volume) < 0.3 * np.linalg.norm(left.volume - wanted.volume)
    assert got.warnings[0].startswith("stripes of ")


def test_counts_without_references_are_reconstructed_with_warnings(integrals, angles):
    result = reconstruct(5000 * np.exp(-integrals), angles, iterations=2, device="cpu", measurement="transmission")
    assert len(result.warnings) == 2


@pytest.mark.slow
def test_a_masked_part_of_the_detector_may_hold_anything(integrals, angles, truth):
    options = {"axis": 15.5, "prior": "tv", "iterations": 4, "device": "cpu"}
    counts = np.ones(integrals.shape[1:])
    counts[:, 20:22] = 0
    whole, unmasked = reconstruct(integrals, angles, **options), np.where(counts > 0, integrals, 2 * integrals.max())
    masked = reconstruct(unmasked, angles, ray_weights=counts, **options)
    others = reconstruct(np.where(counts > 0, integrals, -integrals.max()), angles, ray_weights=counts, **options)
    np.testing.assert_allclose(masked.volume, others.volume, atol=1e-4 * truth.max())
    assert np.linalg.norm(masked.volume - truth) < 1.5 * np.linalg.norm(whole.volume - truth)
    believed = reconstruct(unmasked, angles, **options)
    assert np.linalg.norm(believed.volume - truth) > 4 * np.linalg.norm(masked.volume - truth)
    assert np.isfinite(masked.expected_error).all()


@pytest.mark.slow
def test_which_rays_do_not_count_may_differ_from_angle_to_angle(integrals, angles, truth):
    options = {"iterations": 4, "device": "cpu"}  # with the network
    spoilt = np.random.default_rng(5).random(integrals.shape) < 0.15
    values = np.where(spoilt, 1.5 * integrals.max(), integrals)
    whole, masked = (
        reconstruct(integrals, angles, **options),
        reconstruct(values, angles, ray_weights=~spoilt, **options),
    )
    assert masked.prior == whole.prior != "tv"
    assert np.linalg.norm(masked.volume - truth) < 1.2 * np.linalg.norm(whole.volume - truth)
    assert masked.heldout_error < 1.3 * whole.heldout_error


@pytest.mark.slow
def test_rays_that_all_count_one_change_nothing(integrals, angles):
    plain = reconstruct(integrals, angles, prior="tv", iterations=4, device="cpu")
    weighted = reconstruct(
        integrals, angles, ray_weights=np.ones(integrals.shape), prior="tv", iterations=4, device="cpu"
    )
    assert np.linalg.norm(weighted.volume - plain.volume) < 0.01 * np.linalg.norm(plain.volume)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"projections": np.zeros((26, 8))}, "real numbers .angle, row, column."),
        ({"projections": np.zeros((26, 8, 32), complex)}, "real numbers"),
        ({"angles": np.arange(25.0)}, "one per projection, .26,. degrees; got shape .25,."),
        ({"angles": np.full(26, np.nan)}, "finite degrees"),
        ({"prior": "magic"}, "there are no weights 'magic'"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"axis": 1000.0}, "rotation axis"),
        ({"projections": np.zeros((0, 8, 32)), "angles": np.zeros(0)}, "at least 2 usable projections"),
        ({"projections": np.full((26, 8, 32), np.nan)}, "got 0 usable of 26"),
        (
            {"ray_weights": np.ones((26, 8, 31))},
            r"\(26, 8, 32\), or \(row, column\).*got float64 of shape \(26, 8, 31\)",
        ),
        ({"ray_weights": np.full((8, 32), -1)}, "finite, and zero or positive"),
        ({"ray_weights": np.zeros((8, 32))}, "got 0 usable of 26"),
    ],
)
def test_what_cannot_be_reconstructed_is_explained(integrals, angles, change, said):
    with pytest.raises((InputError, SettingsError), match=said):
        reconstruct(**{"projections": integrals, "angles": angles, "device": "cpu", **change})


def test_the_rule_of_what_is_held_out_reads_the_same_in_the_metadata():
    rows = np.arange(40)
    rule = HeldOut(8).document()
    assert np.flatnonzero(HeldOut(8).among(rows)).tolist() == list(range(rule["first"], 40, rule["every"]))
    assert (HeldOut(0).document(), HeldOut(0).among(rows).any()) == (None, False)
