"""Stripes are found from what passes, leave a scan without stripes alone, and make rings weaker."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from pfitre_service.bench.rings.benchmark import ring_strength, run
from pfitre_service.errors import InputError
from pfitre_service.model import FrameBatch, ScanGeometry
from pfitre_service.preprocess import PreprocessParameters, References, StripeSearch, to_line_integrals
from pfitre_service.recon.solvers.filtered_backprojection import FilteredBackprojection
from pfitre_service.twin.chip import layered_chip
from pfitre_service.twin.families import HELD_BACK_FAMILIES, TRAINING_FAMILIES, draw
from pfitre_service.twin.particle import battery_particle
from pfitre_service.twin.project import project
from pfitre_service.twin.recordings import cu23

COLUMNS, ROWS = 96, 3
PHOTONS = 1e4


def scan(phantom=battery_particle, span: float = 180.0, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Noisy line integrals (angle, row, column) up to 2 without stripes, one a degree, and their angles."""
    volume = phantom((32, 2 * columns, 2 * columns), seed=1)[12 : 12 + 2 * ROWS]
    angles = np.arange(0.0, span) - span / 2
    clean = project(volume, angles)
    counts = np.random.default_rng(0).poisson(PHOTONS * np.exp(-2 * clean / clean.max()))
    return -np.log(np.maximum(counts, 0.5) / PHOTONS).astype(np.float32), angles


def stripes(strength: float) -> np.ndarray:
    """(row, column): one column in seven is off."""
    random = np.random.default_rng(1)
    struck = random.random((ROWS, COLUMNS)) < 0.15
    return np.where(struck, random.normal(0, strength, (ROWS, COLUMNS)), 0).astype(np.float32)


def profile(values: np.ndarray, angles: np.ndarray, method: str = "auto") -> np.ndarray:
    search = StripeSearch(None, PreprocessParameters(stripes=method), "line_integral")
    for first in range(0, len(angles), 40):
        search.add(FrameBatch("projection", first, values[first : first + 40], angles[first : first + 40]))
    found = search.profile()
    return np.zeros(values.shape[1:], np.float32) if found is None else found


def slices(values: np.ndarray, angles: np.ndarray) -> np.ndarray:
    picture = FilteredBackprojection(ScanGeometry.from_detector(rows=values.shape[1], columns=values.shape[2]))
    picture.add(torch.from_numpy(values), torch.from_numpy(angles))
    return picture.volume().numpy()


@pytest.mark.parametrize("phantom", [battery_particle, layered_chip])
def test_the_steady_profile_is_nearer_to_the_stripes_than_none_and_takes_nothing_from_a_scan_without(phantom):
    values, angles = scan(phantom)
    truth = stripes(0.1)
    assert np.linalg.norm(profile(values + truth, angles) - truth) < 0.6 * np.linalg.norm(truth)
    assert not profile(values, angles).any()


@pytest.mark.parametrize("phantom", [battery_particle, layered_chip])
def test_a_scan_over_a_limited_range_stays_as_it_is_unless_sorting_is_asked_for(phantom):
    values, angles = scan(phantom, span=80.0)
    values += stripes(0.1)
    assert not profile(values, angles).any()
    assert profile(values, angles, "sorting").any()


def test_fluorescence_over_a_limited_range_stays_as_it_is():
    recording = cu23()
    assert not profile(recording.projections, recording.angles).any()


@pytest.mark.parametrize(("method", "remaining"), [("auto", 0.6), ("sorting", 0.35)])
def test_rings_become_weaker(method, remaining):
    values, angles = scan()
    striped = values + stripes(0.1)
    before, without = (ring_strength(slices(each, angles), 0.45 * COLUMNS) for each in (striped, values))
    after = ring_strength(slices(striped - profile(striped, angles, method), angles), 0.45 * COLUMNS)
    assert before > 3 * without
    assert after < remaining * before


@pytest.mark.parametrize("family", sorted({**TRAINING_FAMILIES, **HELD_BACK_FAMILIES}))
def test_no_family_of_samples_without_stripes_loses_anything(family):
    values, angles = scan(lambda shape, seed: draw(family, shape, np.random.default_rng(seed)))
    assert not profile(values, angles).any()


@pytest.mark.parametrize("phantom", [battery_particle, layered_chip])
def test_where_all_columns_are_wrong_wide_stripes_are_found_as_well(phantom):
    columns = 256
    values, angles = scan(phantom, columns=columns)
    random = np.random.default_rng(3)
    wide = ndimage.gaussian_filter1d(random.normal(0, 0.15, (ROWS, columns)), 1.5, axis=1)
    truth = (wide + random.normal(0, 0.04, (ROWS, columns))).astype(np.float32)
    striped = values + truth
    before = ring_strength(slices(striped, angles), 0.45 * columns)
    after = ring_strength(slices(striped - profile(striped, angles), angles), 0.45 * columns)
    assert after < 0.4 * before
    assert not profile(values, angles).any()


def test_every_way_to_take_stripes_out_is_measured_on_counts():
    values, angles = scan()
    counts = PHOTONS * np.exp(-values - stripes(0.1))
    flats, darks = np.full((1, ROWS, COLUMNS), PHOTONS), np.zeros((1, ROWS, COLUMNS))
    result, _ = run(counts, angles, flats=flats, darks=darks, measurement="transmission", axis=None)
    rings = result["ring_strength"]
    assert set(rings) == {"none", "auto", "sorting", "algotom sorting", "algotom all"}
    assert rings["auto"] < 0.6 * rings["none"]
    assert rings["sorting"] < 0.35 * rings["none"]
    best = min(rings["algotom sorting"], rings["algotom all"])
    assert rings["sorting"] < 1.1 * best
    assert result["auto_over_algotom"] == pytest.approx(rings["auto"] / best)


def test_the_profile_does_not_depend_on_batches_order_or_direction():
    values, angles = scan()
    values += stripes(0.1)
    mixed = np.random.default_rng(2).permutation(len(angles))
    np.testing.assert_allclose(profile(values[mixed], angles[mixed]), profile(values, angles), atol=1e-5)
    np.testing.assert_allclose(profile(values, angles + 180), profile(values, angles), atol=1e-5)


def test_a_frame_counts_once_however_often_it_passes_by():
    values, angles = scan()
    values += stripes(0.1)
    search = StripeSearch(None, PreprocessParameters(), "line_integral")
    for first, stop in ((0, 50), (90, 100), (20, 60), (60, 180), (0, 180)):
        search.add(FrameBatch("projection", first, values[first:stop], angles[first:stop]))
    np.testing.assert_allclose(search.profile(), profile(values, angles), atol=1e-6)


def test_too_short_a_scan_shows_no_stripes():
    values, angles = scan(span=40.0)
    assert not profile(values + stripes(0.5), angles, "sorting").any()


def test_the_profile_found_is_subtracted_from_every_projection():
    values, angles = scan()
    parameters = PreprocessParameters()
    search = StripeSearch(None, parameters, "line_integral")
    search.add(FrameBatch("projection", 0, values + stripes(0.1), angles))
    found = search.found()
    assert found is not None
    corrected = to_line_integrals(values, found, parameters, "line_integral")
    np.testing.assert_allclose(corrected.values, values - found.stripes, atol=1e-6)
    assert [text[:11] for text in corrected.warnings] == ["stripes of "]


def test_a_profile_of_another_shape_is_refused():
    wrong = References(flat=None, dark=None, valid=None, stripes=np.zeros((2, 5), np.float32))
    with pytest.raises(InputError, match="profile of stripes"):
        to_line_integrals(np.zeros((1, 2, 4)), wrong, PreprocessParameters(), "line_integral")


def test_stripes_off_looks_for_none():
    values, angles = scan()
    search = StripeSearch(None, PreprocessParameters(stripes="off"), "line_integral")
    search.add(FrameBatch("projection", 0, values + stripes(0.5), angles))
    assert search.found() is None
