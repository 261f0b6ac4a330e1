"""The statement that goes with a volume."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from pfitre_service import reconstruct
from pfitre_service.bench.expected_error.error_cases import ErrorCase, heldback_cases
from pfitre_service.errors import InputError
from pfitre_service.twin.plans import wedge_angles
from pfitre_service.twin.scans import SimulatedSample


@pytest.fixture(scope="module")
def case() -> ErrorCase:
    return next(one for one in heldback_cases(64) if one.name.startswith("80 degrees"))


@pytest.fixture(scope="module")
def result(case):
    measured = case.measurement
    return reconstruct(measured.projections, measured.angles, axis=measured.geometry.axis, prior="tv")


def test_the_sentence_says_what_was_measured_and_how_well(result):
    statement = result.statement
    assert statement.sentence.startswith("Angles ")
    assert "are inferred, not measured" in statement.sentence
    assert f"Held-out error {statement.heldout_error / statement.noise_floor:.1f} x noise" in statement.sentence
    assert 0.5 < statement.heldout_error / statement.noise_floor < 10
    assert statement.heldout_error == result.heldout_error


def test_the_map_ranks_the_voxels_as_their_errors_do(case, result):
    from scipy.stats import spearmanr

    error = np.abs(result.volume - case.truth.numpy())
    assert spearmanr(result.expected_error, error, axis=None).statistic > 0.6
    assert 1 / 3 < result.expected_error.mean() / error.mean() < 3


def test_measured_and_inferred_part_are_the_volume_and_the_next_angle_is_missing(case, result):
    statement = result.statement
    assert statement.inferred_share == pytest.approx(
        np.linalg.norm(result.inferred) / np.linalg.norm(result.volume), rel=1e-4
    )
    assert 0.05 < statement.inferred_share < 1
    assert 80 / 180 < statement.missing_share < 0.7
    nearest = np.abs((statement.next_angle - case.measurement.angles.numpy() + 90) % 180 - 90).min()
    assert nearest > 2


def test_a_wrong_axis_is_known_by_the_held_out_error_and_a_lost_sign_by_the_projections(case, result):
    measured = case.measurement
    views = measured.projections, measured.angles
    off = reconstruct(*views, axis=measured.geometry.axis + 3, prior="tv")
    middle = measured.angles.mean()
    assert off.heldout_error > result.heldout_error
    with pytest.raises(InputError, match="angles-without-sign"):
        reconstruct(views[0], middle + (views[1] - middle).abs(), axis=measured.geometry.axis, prior="tv")


def test_nothing_held_out_is_said(case):
    from pfitre_service.config import Settings

    measured = case.measurement
    settings = Settings.model_validate({"worker": {"heldout_every": 0}})
    statement = reconstruct(measured.projections, measured.angles, prior="none", settings=settings).statement
    assert "Nothing is held out" in statement.sentence
    assert math.isnan(statement.heldout_error)
    assert json.loads(json.dumps(statement.document(), allow_nan=False))["heldout_error"] is None


def test_the_sentence_of_the_demo_chip_does_not_reassure_beyond_what_is_true():
    """Its held-out error is that of a perfect volume, and a good part of its metal is gone."""
    sample = SimulatedSample("layered_chip", attenuation=0.1, rows=8, columns=96, axis=48.75)
    source, angles, truth = sample.source(0), wedge_angles(missing=96.0, step=2.0), sample.truth(0)
    flats, darks = (np.stack([take() for _ in range(5)]) for take in (source.flat, source.dark))
    projections = np.stack([source.projection(angle) for angle in angles])
    result = reconstruct(projections, angles, axis=sample.axis, prior="tv", flats=flats, darks=darks)
    said, error = result.statement, np.linalg.norm(result.volume - truth) / np.linalg.norm(truth)
    dense = truth > 0.5 * truth.max()
    lost = truth[dense & (result.volume < truth / 2)].sum() / truth[dense].sum()
    assert said.heldout_error < 1.3 * said.noise_floor
    assert lost > 0.15
    assert error > 0.3
    assert said.simulated_error_upper >= error
    assert said.simulated_lost_upper >= lost
    assert f"{said.inferred_share:.0%}".removesuffix("%") + " % of the volume is inferred" in said.sentence
    assert "of dense material gone" in said.sentence
    assert "sees measured directions alone" in said.sentence
