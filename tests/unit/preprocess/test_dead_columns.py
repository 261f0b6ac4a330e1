"""Columns that never change, between columns that hold sample, measure nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.preprocess.value_plausibility import dead_columns


def scan(seed: int = 0) -> np.ndarray:
    """(angle, slice, column) of a disc with noise, air at both sides."""
    away = np.abs(np.arange(48) - 23.5) / 18
    body = 2 * np.sqrt(np.maximum(1 - away**2, 0))
    return (body + np.random.default_rng(seed).normal(0, 0.01, (20, 3, 48))).astype(np.float32)


@pytest.mark.parametrize("value", [0.0, -1.0, 9.0])
def test_columns_of_one_value_inside_the_sample_are_doubted_by_their_numbers(value):
    rows = scan()
    rows[:, :, 20:22] = value
    (finding,) = dead_columns(rows)
    assert finding.name == "dead-columns"
    assert "20, 21" in finding.message
    assert not finding.fatal


def test_air_and_a_sample_without_noise_are_none():
    assert list(dead_columns(scan())) == []
    rows = scan()
    rows[:, :, :5] = rows[:, :, -5:] = 0
    assert list(dead_columns(rows)) == []
    still = np.repeat(scan()[:1], 20, axis=0)
    still[:, :, 30] += np.random.default_rng(1).normal(0, 0.01, (20, 3)).astype(np.float32)
    still[:, :, 10] += np.random.default_rng(2).normal(0, 0.01, (20, 3)).astype(np.float32)
    assert list(dead_columns(np.repeat(still[:, :1], 3, axis=1))) == []
