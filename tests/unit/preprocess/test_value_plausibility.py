"""What the values of a scan say against it, held against three analytic discs: no phantom and no projector of ours."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.preprocess import PreprocessParameters, References, to_line_integrals
from pfitre_service.preprocess.measurement import decided
from pfitre_service.preprocess.value_plausibility import in_words, value_findings
from pfitre_service.twin.families import draw
from pfitre_service.twin.imperfections import draw_imperfections, measure
from pfitre_service.twin.project import project
from pfitre_service.twin.recordings import cu23
from pfitre_service.twin.scans import SCANS

COLUMNS, ROWS = 48, 4
ANGLES = np.deg2rad(np.arange(-75.0, 75.1, 3.0))
GAP = slice(20, 22)
DISCS = ((0.25, 0.30, 0.22, 1.0), (-0.35, 0.05, 0.16, 1.6), (0.10, -0.42, 0.12, 2.2))
"""x, y, radius and attenuation, in half widths of the detector."""


def discs() -> np.ndarray:
    """(angle, row, column) line integrals: chords of circles, from the textbook."""
    column = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) / (COLUMNS / 2)
    centre = [x * np.cos(ANGLES) + y * np.sin(ANGLES) for x, y, *_ in DISCS]
    chords = [
        2 * mu * np.sqrt(np.maximum(radius**2 - (column - middle[:, None]) ** 2, 0))
        for (_, _, radius, mu), middle in zip(DISCS, centre, strict=True)
    ]
    return np.repeat(np.sum(chords, axis=0)[:, None], ROWS, axis=1)


def counted(beam: float = 20_000.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projections, flats and darks as a camera counts them, uint16."""
    random = np.random.default_rng(0)
    frames = random.poisson(beam * np.exp(-discs())) + 100
    flats = random.poisson(beam, (6, ROWS, COLUMNS)) + 100
    return frames.astype("u2"), flats.astype("u2"), random.poisson(100, flats.shape).astype("u2")


def found(frames, flats=None, darks=None, measurement="transmission", *, said=True) -> dict[str, bool]:
    """Findings by name, and whether each is fatal."""
    references = References.from_frames(flats, darks)
    corrected = to_line_integrals(frames, references, PreprocessParameters(), measurement)
    facts = dict(enumerate(corrected.facts))
    return {finding.name: finding.fatal for finding in value_findings(facts, references, measurement, said=said)}


def masked(images: np.ndarray, value: int, dtype: str) -> np.ndarray:
    images = images.astype(dtype)
    images[..., GAP] = value
    return images


def across_the_gap(images: np.ndarray) -> np.ndarray:
    """With the columns of the gap on the straight line between those beside it."""
    left, right = images[..., [GAP.start - 1]], images[..., [GAP.stop]]
    images = images.copy()
    images[..., GAP] = left + (right - left) * np.array([1, 2]) / 3
    return images


def test_a_sound_scan_raises_no_doubt():
    assert found(*counted()) == {}
    assert found(counted()[0]) == {}
    assert found(discs(), measurement="line_integral") == {}
    assert found((1000 * discs()).astype("i4"), measurement="line_integral") == {}


@pytest.mark.parametrize(("value", "dtype"), [(2**32 - 1, "u4"), (2**31 - 1, "i4"), (-1, "i4"), (2**16 - 1, ">u2")])
def test_masked_pixels_are_repaired_in_counts_as_dead_ones_are(value, dtype):
    stacks = [masked(stack, value, dtype) for stack in counted()]
    result = to_line_integrals(
        stacks[0], References.from_frames(stacks[1], stacks[2]), PreprocessParameters(), "transmission"
    )
    assert np.abs(result.values + np.log(across_the_gap(np.exp(-discs()))))[..., GAP].max() < 0.06  # photon noise
    assert not result.unusable.any()


@pytest.mark.parametrize(("value", "dtype"), [(2**32 - 1, "u4"), (-1, "i4"), (-2, "i2"), (2**32 - 1, "f4")])
def test_masked_pixels_are_repaired_in_line_integrals(value, dtype):
    frames = masked(1000 * discs(), value, dtype)
    values = to_line_integrals(frames, None, PreprocessParameters(), "line_integral").values
    assert np.abs(values / 1000 - across_the_gap(discs()))[..., GAP].max() < 0.002  # whole numbers


def test_noise_around_zero_is_no_mask():
    noise = np.random.default_rng(1).normal(0, 5, (3, 8, 32)).round().astype("i4")
    values = to_line_integrals(noise, None, PreprocessParameters(), "line_integral").values
    assert np.array_equal(values, noise)


def test_frames_that_were_dropped_are_left_out_and_named():
    frames = discs()
    frames[[7, 23]] = 0
    result = to_line_integrals(frames, None, PreprocessParameters(), "line_integral")
    assert np.flatnonzero(result.unusable).tolist() == [7, 23]
    assert "dropped" in result.reasons[7]


def test_blocked_views_are_left_out():
    frames, flats, darks = counted()
    frames[30:38, :, 6:] = darks[0, :, 6:]
    result = to_line_integrals(frames, References.from_frames(flats, darks), PreprocessParameters(), "transmission")
    assert np.flatnonzero(result.unusable).tolist() == list(range(30, 38))
    half = counted()[0]
    half[30:38, :, 24:] = darks[0, :, 24:]
    assert found(half, flats, darks) == {"views-blocked": False}


def test_flats_that_cannot_be_are_named():
    frames, flats, darks = counted()
    assert found(frames, flats // 2, darks) == {"transmission-above-one": False}
    assert found(frames, darks, flats)["flats-not-above-darks"]
    assert found(frames, darks, darks)["flats-not-above-darks"]
    assert found(frames, darks + 40, darks)["transmission-above-one"]
    assert found(frames, np.full_like(flats, 65535), darks)["flats-saturated"]
    assert found(frames, np.full_like(flats, 4095), darks)["flats-saturated"]
    fading = (flats * np.linspace(1, 0.5, 6)[:, None, None]).astype("u2")
    assert "flats-differ" in found(frames, fading, darks)
    lost = flats.astype("f4")
    lost[2] = np.nan
    assert found(frames, lost, darks) == {"flats-lost": False}


def test_saturated_air_is_doubted():
    frames, flats, darks = counted()
    assert found(np.minimum(frames, 16383), flats, darks) == {"projections-saturated": False}


@pytest.mark.parametrize(
    ("images", "right"),
    [
        (counted()[0], "transmission"),
        (np.exp(-discs()), "transmission"),
        (counted()[0].astype("f4"), "transmission"),
        (discs(), "line_integral"),
        ((60 * discs()).astype("u1"), "line_integral"),
        ((1000 * discs()).astype("i4"), "line_integral"),
        (masked(1000 * discs(), -1, "i4"), "line_integral"),
        (discs() + np.random.default_rng(2).normal(0, 0.03, discs().shape), "line_integral"),
    ],
)
def test_the_sign_of_absorption_tells_counts_from_line_integrals(images, right):
    assert decided(images, flats=False, darks=False) == right
    wrong = "line_integral" if right == "transmission" else "transmission"
    assert found(images, measurement=wrong, said=False)["measurement-contradicted"]
    assert not found(images, measurement=wrong, said=True)["measurement-contradicted"]
    assert found(images, measurement=right, said=False) == {}


def test_a_sample_that_fills_the_field_of_view_tells_nothing_and_is_asked_for():
    inside = counted()[0][..., 16:32]
    with pytest.raises(InputError, match='measurement="transmission" or "line_integral"'):
        decided(inside, flats=False, darks=False)
    assert decided(inside, flats=False, darks=True) == "transmission"


def test_rows_are_named_as_ranges():
    assert in_words([9, 3, 7, 8]) == "3, 7-9"


@pytest.mark.parametrize("family", ["blobs", "fibres", "grains"])
def test_samples_of_the_twin_with_all_imperfections_raise_no_doubt(family):
    rng = np.random.default_rng(0)
    clean = project(draw(family, (16, 96, 96), rng), np.arange(-60.0, 61, 10))
    for _ in range(3):
        assert found(measure(clean, draw_imperfections(rng), rng), measurement="line_integral") == {}


@pytest.mark.parametrize("name", ["chip", "particle"])
def test_simulated_scans_with_dead_and_hot_pixels_raise_no_doubt(name):
    source = SCANS[name].sample.source(0)
    frames = np.stack([source.projection(angle) for angle in np.arange(-42.0, 43, 12)])
    flats, darks = (np.stack([take() for _ in range(4)]) for take in (source.flat, source.dark))
    assert found(frames, flats, darks) == found(frames, said=False) == {}


def test_a_real_fluorescence_scan_raises_no_doubt():
    assert found(cu23().projections, measurement="line_integral", said=False) == {}
