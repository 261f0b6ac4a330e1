"""A scan whose rotation axis nobody knows and whose sample jitters, through a running service: mended as it goes on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pfitre_service.model import TomogramKey
from pfitre_service.recon.quality.similarity import psnr
from pfitre_service.twin.chip import layered_chip
from pfitre_service.twin.devices import RotationStage, TomoDetector
from pfitre_service.twin.image_sources import RecordedScan
from pfitre_service.twin.imperfections import shift_columns
from pfitre_service.twin.plans import tomo_scan
from pfitre_service.twin.project import bin_volume, project
from pfitre_service.twin.recordings import Recording

pytestmark = pytest.mark.slow

ANGLES = np.arange(-42.0, 43.0)
MIDDLE, OFF = 41.5, 3.0


@pytest.fixture(scope="module")
def chip():
    """On voxels half as wide as a detector column, with room around it."""
    return np.pad(layered_chip((16, 128, 128)) * np.float32(0.05), ((0, 0), (20, 20), (20, 20)))


@pytest.fixture(scope="module")
def jitter():
    """(angle,) columns: up to 2 to either side on a third of the angles."""
    rng = np.random.default_rng(3)
    moves = np.zeros(len(ANGLES), np.float32)
    moves[rng.permutation(len(ANGLES))[: len(ANGLES) // 3]] = rng.uniform(-2, 2, len(ANGLES) // 3)
    return moves


@pytest.fixture(scope="module")
def service(tmp_path_factory, start_service):
    with start_service(tmp_path_factory.mktemp("service"), {"prior": {"name": "tv"}}) as service:
        yield service


@pytest.fixture
def final(service, RE):
    """Runs a scan of these projections; its final volume, its metadata, and its rows of progress."""
    RE.subscribe(service.publisher)

    def run(projections, rotation_axis=None):
        stage = RotationStage(name="rotation")
        source = RecordedScan(Recording(projections, ANGLES), rotation_axis=rotation_axis)
        detector = TomoDetector(name="detector", source=source, stage=stage, exposure_s=0.03)
        (uid,) = RE(tomo_scan(detector, stage, ANGLES.tolist()))
        key = TomogramKey(uid)
        metadata = service.ended(key)
        return service.reader(key).volume(), metadata, service.reader(key).progress()

    return run


def registered_psnr(volume, truth):
    """The best over moves along the columns: axis and the sample's place are told apart only so well."""
    return max(
        float(psnr(ndimage.shift(volume, (0, 0, x), order=3), truth, region="volume"))
        for x in np.arange(-1, 1.01, 0.25)
    )


def test_a_wrong_axis_and_jitter_are_found_live_and_cost_less_than_1_db(final, chip, jitter):
    clean, truth = project(chip, ANGLES), bin_volume(chip, 2)
    noise = np.random.default_rng(4).normal(scale=0.01 * clean.max(), size=clean.shape).astype(np.float32)
    spoilt = shift_columns(project(chip, ANGLES, axis=MIDDLE + OFF), jitter)
    best, known, _ = final(clean + noise, rotation_axis=MIDDLE)
    recovered, found, progress = final(spoilt + noise)
    assert (known["calibration"]["axis_origin"], known["calibration"]["shifts"]) == ("given", [])
    calibration = found["calibration"]
    assert calibration["axis_origin"] == "found"
    assert calibration["axis"] == pytest.approx(MIDDLE + OFF, abs=0.7)
    assert calibration["angles"] == found["frames_used"] == len(ANGLES)
    assert found["warnings"] == []
    assert registered_psnr(recovered, truth) > registered_psnr(best, truth) - 1
    assert "iterating" in {row.phase for row in progress}
