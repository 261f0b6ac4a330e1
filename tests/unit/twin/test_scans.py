"""Named scans, wedges and the recording that comes with the package."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.twin.plans import wedge_angles
from pfitre_service.twin.project import project
from pfitre_service.twin.recordings import cu23
from pfitre_service.twin.scans import SCANS, build_scan


def missing(angles: list[float]) -> float:
    """Widest gap between directions, in degrees."""
    directions = np.sort(np.asarray(angles) % 180)
    return float(np.diff(directions, append=directions[0] + 180).max())


def test_the_recording_is_what_its_readme_says():
    recording = cu23()
    assert recording.projections.shape == (51, 84, 150)
    assert recording.projections.dtype == np.float32
    assert np.isfinite(recording.projections).all()
    assert (recording.angles[0], recording.angles[-1]) == (-72, 108)
    assert missing(recording.angles.tolist()) == 96


@pytest.mark.parametrize("name", SCANS)
def test_every_scan_misses_a_wedge_and_says_what_it_is(name: str):
    scan = build_scan(name, exposure_s=0)
    assert 90 <= missing(scan.angles) <= 100
    assert scan.description
    assert scan.detector.image.get().shape == (scan.volume_shape[0], scan.volume_shape[2])
    assert scan.detector.rotation_axis is not None


@pytest.mark.parametrize("name", ["chip", "particle"])
def test_the_truth_of_a_simulated_scan_projects_to_a_transmission_one_can_measure(name: str):
    scan = build_scan(name)
    assert scan.truth is not None
    assert scan.truth.shape == scan.volume_shape
    twice = np.repeat(np.repeat(np.repeat(scan.truth, 2, 0), 2, 1), 2, 2)
    thickest = project(twice, [scan.angles[0], 0.0]).max()
    assert 1 < thickest < 4


def test_an_unknown_scan_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="no scan 'chop'; choose one of cu23, chip, particle"):
        build_scan("chop")


def test_a_wedge_leaves_out_at_least_what_was_asked():
    assert wedge_angles(missing=96, step=2) == [float(a) for a in range(-42, 43, 2)]
    assert wedge_angles(missing=100, step=30, centre=10) == [-20.0, 10.0, 40.0]
    for wedge, step in ((33.3, 0.7), (90.0, 0.1), (179.0, 2.0)):
        assert missing(wedge_angles(missing=wedge, step=step)) >= wedge - 1e-6


@pytest.mark.parametrize(("wedge", "step"), [(0, 1), (180, 1), (90, 0), (float("nan"), 1)])
def test_wedges_without_sense_are_refused(wedge: float, step: float):
    with pytest.raises(InputError, match="a wedge misses"):
        wedge_angles(missing=wedge, step=step)
