"""The simulated devices take real time, block nobody, and fail out loud."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from ophyd.utils.errors import UnknownStatusFailure

from pfitre_service.errors import InputError
from pfitre_service.twin.detector import Camera, FluorescenceDetector
from pfitre_service.twin.devices import RotationStage, TomoDetector
from pfitre_service.twin.image_sources import RecordedScan, SimulatedScan
from pfitre_service.twin.project import FineVolume, project
from pfitre_service.twin.recordings import Recording, cu23

VOLUME = np.random.default_rng(0).random((8, 32, 32), np.float32) * np.float32(0.02)


def detector_of(source: object = None, **options: float) -> tuple[TomoDetector, RotationStage]:
    stage = RotationStage(name="rotation")
    if source is None:
        source = SimulatedScan(FineVolume.from_volume(VOLUME), Camera((4, 16)))
    return TomoDetector(name="detector", source=source, stage=stage, **options), stage


def image_of(detector: TomoDetector) -> np.ndarray:
    detector.trigger().wait(5)
    return detector.read()["detector_image"]["value"]


def test_the_image_is_the_projection_at_the_stages_angle():
    detector, stage = detector_of(
        SimulatedScan(FineVolume.from_volume(VOLUME), FluorescenceDetector(counts_per_unit=1e9))
    )
    detector.exposure_s.put(0.0)
    for angle in (0.0, -33.0, 71.5):
        stage.set(angle).wait(5)
        np.testing.assert_allclose(image_of(detector), project(VOLUME, [angle])[0], atol=1e-4)


def test_shutter_and_sample_decide_between_dark_flat_and_projection():
    detector, _ = detector_of(exposure_s=0.0)
    projection = image_of(detector).mean()
    detector.sample.set("out").wait(1)
    flat = image_of(detector).mean()
    detector.shutter.set("closed").wait(1)
    dark = image_of(detector).mean()
    assert dark == pytest.approx(100, abs=5)
    assert flat == pytest.approx(10_100, rel=0.01)
    assert dark + 100 < projection < flat - 100


def test_the_description_is_right_before_and_after_the_first_frame():
    detector, stage = detector_of(exposure_s=0.0)
    before = detector.describe()
    image = image_of(detector)
    assert detector.describe() == before
    assert before["detector_image"]["shape"] == list(image.shape) == [4, 16]
    assert before["detector_image"]["dtype"] == "array"
    assert np.dtype(before["detector_image"]["dtype_numpy"]) == image.dtype == np.uint16
    assert stage.describe()["rotation"]["units"] == "deg"
    assert stage.hints == {"fields": ["rotation"]}


def test_an_exposure_takes_its_time_without_blocking():
    detector, _ = detector_of(exposure_s=0.2)
    start = time.monotonic()
    status = detector.trigger()
    assert time.monotonic() - start < 0.1
    assert not status.done
    status.wait(5)
    assert 0.2 <= time.monotonic() - start < 5.0


def test_a_stopped_exposure_fails_gives_no_image_and_leaves_no_thread():
    detector, _ = detector_of(exposure_s=60.0)
    status = detector.trigger()
    detector.stop()
    with pytest.raises(InterruptedError, match="cut short"):
        status.wait(5)
    assert not detector.image.get().any()
    assert "detector-exposure" not in {thread.name for thread in threading.enumerate()}


def test_unstaging_ends_the_exposure_without_failing_a_status_nobody_waits_for():
    detector, _ = detector_of(exposure_s=60.0)
    status = detector.trigger()
    detector.unstage()
    status.wait(5)
    assert not detector.image.get().any()
    assert "detector-exposure" not in {thread.name for thread in threading.enumerate()}


def test_every_frame_is_an_array_of_its_own():
    detector, _ = detector_of(RecordedScan(Recording(np.ones((1, 4, 16), np.float32), np.array([0.0]))), exposure_s=0)
    first = image_of(detector)
    first[:] = -1
    assert (image_of(detector) == 1).all()


def test_a_move_takes_the_time_that_its_speed_asks_for():
    stage = RotationStage(name="rotation", speed=100.0)
    start = time.monotonic()
    status = stage.set(20.0)
    assert stage.position == 0
    status.wait(5)
    assert 0.2 <= time.monotonic() - start < 5.0
    assert stage.position == 20


def test_a_stopped_stage_stands_where_it_was_and_the_move_fails():
    stage = RotationStage(name="rotation", speed=1.0)
    status = stage.set(100.0)
    stage.stop()
    with pytest.raises(InterruptedError, match="stopped at"):
        status.wait(5)
    assert 0 <= stage.position < 10
    assert "rotation-move" not in {thread.name for thread in threading.enumerate() if not thread.daemon}


def test_a_new_target_replaces_the_old_one():
    stage = RotationStage(name="rotation", speed=1000.0)
    first = stage.set(10_000.0)
    stage.set(0.0).wait(5)
    assert stage.position == 0
    assert isinstance(first.exception(1), InterruptedError | UnknownStatusFailure)


def test_a_recording_plays_the_projection_of_each_angle_in_any_order():
    recording = cu23()
    detector, stage = detector_of(RecordedScan(recording), exposure_s=0)
    for index in (50, 0, 17):
        stage.set(recording.angles[index]).wait(5)
        np.testing.assert_array_equal(image_of(detector), recording.projections[index])


def test_an_angle_that_was_not_recorded_fails_the_exposure_by_name():
    detector, stage = detector_of(RecordedScan(cu23()), exposure_s=0)
    stage.set(45.0).wait(5)
    with pytest.raises(InputError, match=r"no projection was recorded at 45 degrees; the nearest is at 94|-2"):
        detector.trigger().wait(5)


def test_nonsense_is_refused_by_name():
    detector, stage = detector_of()
    with pytest.raises(InputError, match="finite number of degrees"):
        stage.set(float("nan"))
    with pytest.raises(InputError, match="'open' or 'closed'; got 'ajar'"):
        detector.shutter.set("ajar")
    with pytest.raises(InputError, match="0 seconds or more"):
        detector_of(exposure_s=-1.0)
