"""Findings reach whoever reconstructs: the engine refuses, warns, and forgets what is withdrawn."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.engine.engine import Engine
from pfitre_service.engine.parameters import EngineParameters
from pfitre_service.engine.reconstruct import reconstruct
from pfitre_service.errors import InputError
from pfitre_service.model import FrameBatch, ScanGeometry
from pfitre_service.preprocess import References

COLUMNS, ROWS = 48, 4
ANGLES = np.arange(-75.0, 75.1, 3.0)
CENTRE, RADIUS, ATTENUATION = (10.0, -6.0), 7.0, 0.12
"""x and y from the middle in columns; columns; per column: one disc off the axis."""


def disc_integrals() -> np.ndarray:
    """(angle, row, column): chords of a circle."""
    column = np.arange(COLUMNS) - (COLUMNS - 1) / 2
    radians = np.deg2rad(ANGLES)[:, None]
    away = column - (CENTRE[0] * np.cos(radians) + CENTRE[1] * np.sin(radians))
    return np.repeat(2 * ATTENUATION * np.sqrt(np.maximum(RADIUS**2 - away**2, 0))[:, None], ROWS, axis=1)


def disc() -> np.ndarray:
    """(y, x)."""
    y, x = np.mgrid[:COLUMNS, :COLUMNS] - (COLUMNS - 1) / 2
    return ATTENUATION * ((x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 < RADIUS**2)


def counts() -> np.ndarray:
    return (np.random.default_rng(0).poisson(20_000 * np.exp(-disc_integrals()))).astype("u2")


def likeness(volume: np.ndarray) -> float:
    return float(np.corrcoef(volume[ROWS // 2].ravel(), disc().ravel())[0, 1])


def test_counts_without_flats_and_without_a_word_are_not_inverted():
    result = reconstruct(counts(), ANGLES, axis=23.5, prior="none", iterations=8, device="cpu")
    assert likeness(result.volume) > 0.85
    assert result.findings == ()


def test_a_persons_word_counts_and_is_doubted_loudly():
    images = counts()
    options = {"axis": 23.5, "prior": "none", "iterations": 4, "device": "cpu"}
    result = reconstruct(images, ANGLES, measurement="line_integral", **options)
    assert [finding.name for finding in result.findings] == ["measurement-contradicted"]
    assert result.warnings[0] == str(result.findings[0])


def test_flats_and_darks_that_are_swapped_are_refused():
    flats, darks = np.full((4, ROWS, COLUMNS), 20_100.0), np.full((4, ROWS, COLUMNS), 100.0)
    with pytest.raises(InputError, match=r"flats-not-above-darks: .* swapped"):
        reconstruct(counts() + 100, ANGLES, flats=darks, darks=flats, prior="none", device="cpu")


def engine(measurement: str, *, stated: bool) -> Engine:
    parameters = EngineParameters(measurement, device="cpu", measurement_stated=stated)
    return Engine(ScanGeometry.from_detector(rows=ROWS, columns=COLUMNS), parameters)


def test_a_scan_that_is_still_running_is_doubted_from_a_few_frames_on_and_refused_at_its_end():
    live = engine("line_integral", stated=False)
    images = counts()
    live.add(FrameBatch("projection", 0, images[:2], ANGLES[:2]))
    assert live.findings == ()
    live.add(FrameBatch("projection", 2, images[2:8], ANGLES[2:8]))
    assert [finding.fatal for finding in live.findings] == [True]
    assert any(warning.startswith("measurement-contradicted: ") for warning in live.warnings)
    with pytest.raises(InputError, match="measurement-contradicted"):
        live.close()


def test_what_is_withdrawn_takes_its_doubts_along():
    live = engine("transmission", stated=True)
    live.set_references(References.from_frames(np.full((4, ROWS, COLUMNS), 20_000.0), np.zeros((4, ROWS, COLUMNS))))
    images = counts()
    images[3, :, 24:] = 0
    live.add(FrameBatch("projection", 0, images[:12], ANGLES[:12]))
    assert [finding.name for finding in live.findings] == ["views-blocked"]
    live.withdraw(FrameBatch("projection", 3, images[3:4], ANGLES[3:4]))
    assert live.findings == ()
