"""One tomogram in the worker, and the worker's rounds, on a real catalogue."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from pfitre_service.config import Settings, WorkerSettings
from pfitre_service.model import Frame, TomogramKey
from pfitre_service.service.worker.publisher import Publisher

SETTINGS = Settings(worker=WorkerSettings(device="cpu", publish_interval_s=0.0, batch_frames=8))


def frames(count, first=1, role="projection"):
    """Shadows of a disc, (4, 16)."""
    columns = np.arange(16) - 7.5
    shadow = np.sqrt(np.clip(25 - columns**2, 0, None)).astype(np.float32) / 50
    image = np.tile(shadow, (4, 1)) if role == "projection" else np.ones((4, 16), np.float32)
    angle = (lambda n: 8.0 * n) if role == "projection" else (lambda n: float("nan"))
    return [Frame(image, role, angle(n), n, 1000.0 + n, "run-1", role) for n in range(first, first + count)]


@pytest.fixture(scope="module")
def server(start_server):
    """Of this module alone: what other tests left unfinished is no work of these workers."""
    return start_server()


@pytest.fixture(scope="module")
def catalog(server):
    """That frames and results come out alike over HTTP is held by tests/contract/store."""
    with server.catalog() as catalog:
        yield catalog


@pytest.fixture
def publisher(catalog):
    with Publisher(catalog) as publisher:
        yield publisher


@pytest.fixture
def tomogram(catalog, key):
    catalog.create(key, {"measurement": "line_integral"}, expected_frames=12)
    return catalog.acquisition_writer(key)


def work(worker, until, timeout_s=90.0):
    ends_at = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < ends_at, "what was worked for did not come"
        worker.observe()
        while worker.work():
            pass
        time.sleep(0.01)


def status(catalog, key):
    return catalog.summary(key).status


def test_frames_become_a_final_volume_as_soon_as_the_scan_ends(catalog, publisher, tomogram, key, make_worker):
    worker = make_worker(catalog, publisher, SETTINGS)
    tomogram.append(frames(6))
    work(worker, lambda: status(catalog, key) == "iterating")
    tomogram.append(frames(6, first=7))
    tomogram.close("complete", None)
    work(worker, lambda: status(catalog, key) == "final")
    metadata = catalog.reader(key).metadata()
    assert metadata["reason"] == "12 of 12 projections used; scan complete with 12 of 12 announced projections"
    assert catalog.reader(key).revision() == metadata["revision"] == catalog.reader(key).progress()[-1].revision
    work(worker, lambda: True)
    assert not worker.work()


def test_a_worker_that_comes_later_counts_revisions_on(catalog, publisher, tomogram, key, make_worker):
    tomogram.append(frames(8))
    first = make_worker(catalog, publisher, SETTINGS)
    work(first, lambda: (catalog.summary(key).revision or 0) > 1 and publisher.is_done_with(key))
    before = catalog.reader(key).progress()[-1]
    tomogram.append(frames(4, first=9))
    tomogram.close("complete", None)
    work(make_worker(catalog, publisher, SETTINGS), lambda: status(catalog, key) == "final")
    rows = catalog.reader(key).progress()
    assert [row.revision for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1].iterations > before.iterations
    assert rows[-1].seconds > before.seconds
    assert rows[-1].angles_used == 12
    assert catalog.reader(key).revision() == rows[-1].revision


def test_a_tomogram_that_many_newer_ones_have_passed_goes_on(catalog, publisher, tomogram, key, make_worker):
    tomogram.append(frames(6))
    for number in range(21):
        catalog.create(TomogramKey(f"{key.id}-newer-{number}"), {"status": "final"})
    worker = make_worker(catalog, publisher, SETTINGS)
    work(worker, lambda: catalog.summary(key).revision)
    tomogram.append(frames(6, first=7))
    tomogram.close("complete", None)
    work(worker, lambda: status(catalog, key) == "final")
    assert catalog.reader(key).metadata()["frames_used"] == 12


def test_flats_that_come_late_make_the_worker_add_the_frames_again(catalog, publisher, key, make_worker):
    catalog.create(key, {"measurement": "transmission", "geometry": {"axis": 7.5}})
    writer = catalog.acquisition_writer(key)
    images = [Frame(np.exp(-f.image), f.role, f.angle, f.seq_num, f.time, f.run_uid, f.stream) for f in frames(10)]
    worker = make_worker(catalog, publisher, SETTINGS)
    writer.append(images)
    work(worker, lambda: status(catalog, key) == "iterating")
    assert len(catalog.reader(key).metadata()["warnings"]) == 2
    writer.append([*frames(2, role="flat"), *(Frame(f.image * 0, "dark", *_rest(f)) for f in frames(2, role="dark"))])
    writer.close("complete", None)
    work(worker, lambda: status(catalog, key) == "final")
    metadata = catalog.reader(key).metadata()
    assert (metadata["frames_used"], metadata["warnings"]) == (10, [])


def test_stripes_are_taken_out_of_all_frames_when_the_last_one_is_in(catalog, publisher, key, make_worker):
    catalog.create(key, {"measurement": "line_integral"})
    writer = catalog.acquisition_writer(key)
    stripes = np.zeros((4, 16), np.float32)
    stripes[1, 3], stripes[2, 11] = 0.2, -0.1
    images = [
        Frame(f.image + stripes, f.role, 4.0 * f.seq_num, f.seq_num, f.time, f.run_uid, f.stream) for f in frames(45)
    ]
    worker = make_worker(catalog, publisher, SETTINGS)
    writer.append(images[:30])
    work(worker, lambda: status(catalog, key) == "iterating")
    assert catalog.reader(key).metadata()["warnings"] == []
    writer.append(images[30:])
    writer.close("complete", None)
    work(worker, lambda: status(catalog, key) == "final")
    metadata = catalog.reader(key).metadata()
    assert metadata["frames_used"] == 45
    assert any(warning.startswith("stripes of 0.02") for warning in metadata["warnings"])


def test_projections_that_are_withdrawn_do_not_count_whenever_it_comes(catalog, publisher, tomogram, key, make_worker):
    worker = make_worker(catalog, publisher, SETTINGS)
    tomogram.append(frames(10))
    tomogram.update(withdrawn=[2])  # before the worker has seen it
    work(worker, lambda: (catalog.summary(key).revision or 0) > 0)
    tomogram.update(withdrawn=[2, 4, 5])
    tomogram.append(frames(2, first=11))
    tomogram.close("complete", None)
    work(worker, lambda: status(catalog, key) == "final")
    metadata = catalog.reader(key).metadata()
    assert metadata["frames_used"] == 9
    assert metadata["reason"].startswith("9 of 12 projections used, 3 withdrawn; scan complete")


def off_axis(angles, axis=10.0):
    """Shadows of a disc of radius 4 that turns around `axis` of 24 columns, 2 columns off it."""
    centres = axis + 2 * np.cos(np.deg2rad(angles))
    shadow = np.sqrt(np.clip(16 - (np.arange(24) - centres[:, None]) ** 2, 0, None)).astype(np.float32) / 50
    return [
        Frame(np.tile(row, (2, 1)), "projection", angle, n, 1000.0 + n, "run-1", "primary")
        for n, (row, angle) in enumerate(zip(shadow, angles.tolist(), strict=True), start=1)
    ]


def test_the_axis_that_a_worker_found_is_where_the_next_one_begins(catalog, publisher, key, make_worker):
    catalog.create(key, {"measurement": "line_integral"})
    writer = catalog.acquisition_writer(key)
    shadows = off_axis(np.arange(0.0, 180.0, 7.5))
    writer.append(shadows[:20])
    first = make_worker(catalog, publisher, SETTINGS)

    def found():
        return catalog.reader(key).metadata().get("calibration", {}).get("axis_origin") == "found"

    work(first, found)
    calibration = catalog.reader(key).metadata()["calibration"]
    assert calibration["axis"] == pytest.approx(10.0, abs=0.3)
    writer.append(shadows[20:])
    writer.close("complete", None)
    work(make_worker(catalog, publisher, SETTINGS), lambda: status(catalog, key) == "final")
    final = catalog.reader(key).metadata()
    assert final["calibration"]["axis"] == pytest.approx(calibration["axis"], abs=0.25)
    assert (final["calibration"]["angles"], final["frames_used"]) == (24, 24)


def _rest(frame):
    return frame.angle, frame.seq_num, frame.time, frame.run_uid, "dark"


@pytest.mark.parametrize(
    ("count", "said"), [(0, "no projection was stored: scan aborted"), (1, "got 1 usable of 1 stored: scan aborted")]
)
def test_too_few_projections_are_a_failure_with_a_reason(catalog, publisher, tomogram, key, count, said, make_worker):
    worker = make_worker(catalog, publisher, SETTINGS)
    if count:
        tomogram.append(frames(count))
    tomogram.close("aborted", "out of beam")
    work(worker, lambda: status(catalog, key) == "failed")
    assert said in catalog.reader(key).metadata()["reason"]
    assert "out of beam" in catalog.reader(key).metadata()["reason"]


def test_one_tomogram_s_failure_leaves_the_others_alone(catalog, publisher, tomogram, key, make_worker):
    broken = TomogramKey(f"{key}-broken")
    catalog.create(broken, {"measurement": "line_integral", "geometry": {"axis": 1e9}})
    catalog.acquisition_writer(broken).append(frames(4))
    tomogram.append(frames(12))
    tomogram.close("complete", None)
    worker = make_worker(catalog, publisher, SETTINGS)
    work(worker, lambda: status(catalog, key) == "final" and status(catalog, broken) == "failed")
    assert "rotation axis" in catalog.reader(broken).metadata()["reason"]


def test_what_nobody_said_of_the_images_their_values_decide(catalog, publisher, key, make_worker):
    catalog.create(key, {"measurement": "transmission", "measurement_stated": False})
    writer = catalog.acquisition_writer(key)
    writer.append(frames(6))
    worker = make_worker(catalog, publisher, SETTINGS)
    work(worker, lambda: catalog.summary(key).metadata.get("measurement") == "line_integral")
    writer.append(frames(6, first=7))
    writer.close("complete", None)
    work(worker, lambda: status(catalog, key) == "final")
    metadata = catalog.reader(key).metadata()
    assert (metadata["measurement_from"], metadata["findings"], metadata["frames_used"]) == ("values", [], 12)
    rows = catalog.reader(key).progress()
    assert [row.revision for row in rows] == list(range(1, len(rows) + 1))


def test_a_tomogram_whose_references_are_swapped_fails_and_keeps_its_frames(catalog, publisher, key, make_worker):
    catalog.create(key, {"measurement": "transmission"})
    writer = catalog.acquisition_writer(key)
    for role, level in (("flat", 10), ("dark", 1000)):
        image = np.full((4, 16), level, np.float32)
        writer.append([Frame(image, role, float("nan"), n, 1000.0 + n, "run-1", role) for n in (1, 2)])
    writer.append(
        [Frame(1000 * np.exp(-f.image), f.role, f.angle, f.seq_num, f.time, f.run_uid, f.stream) for f in frames(8)]
    )
    writer.close("complete", None)
    work(make_worker(catalog, publisher, SETTINGS), lambda: status(catalog, key) == "failed")
    assert "flats-not-above-darks" in catalog.reader(key).metadata()["reason"]
    assert catalog.summary(key).frames["projection"] == 8


def frame_files(server, key, name="projections"):
    """Files of frames in the order of their rows."""
    folder = server.data_dir / "data" / "tomograms" / str(key) / name
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json"]
    return sorted(files, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path.relative_to(folder)))])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_frame_that_was_damaged_before_the_worker_came_again_is_left_out_and_named(
    server, catalog, publisher, tomogram, key, make_worker
):
    tomogram.append(frames(8))
    first = make_worker(catalog, publisher, SETTINGS)
    work(first, lambda: (catalog.summary(key).revision or 0) > 1 and publisher.is_done_with(key))
    flip(frame_files(server, key)[2])
    tomogram.append(frames(4, first=9))
    tomogram.close("complete", None)
    work(make_worker(catalog, publisher, SETTINGS), lambda: status(catalog, key) == "final")
    metadata, without = catalog.reader(key).metadata(), TomogramKey(f"{key}-without")
    assert metadata["reason"].startswith(
        "11 of 12 projections used, 1 damaged in the store and left out (projection 2, run run-1, seq_num 3: "
    )
    assert (metadata["frames_used"], metadata["frames_damaged"], metadata["frames_unusable"]) == (11, 1, 1)
    assert metadata["warnings"][0].startswith("projection 2 was left out: run run-1, seq_num 3: ")
    catalog.create(without, {"measurement": "line_integral"})
    writer = catalog.acquisition_writer(without)
    writer.append(frames(12))
    writer.update(withdrawn=[2])
    writer.close("complete", None)
    work(make_worker(catalog, publisher, SETTINGS), lambda: status(catalog, without) == "final")
    volume, expected = catalog.reader(key).volume(), catalog.reader(without).volume()
    np.testing.assert_allclose(volume, expected, atol=1e-5 * np.abs(expected).max())


def test_a_tomogram_whose_flats_are_all_damaged_fails_with_that_reason(server, catalog, publisher, key, make_worker):
    catalog.create(key, {"measurement": "transmission"})
    writer = catalog.acquisition_writer(key)
    writer.append([*frames(2, role="flat"), *frames(8)])
    for path in frame_files(server, key, "flats"):
        flip(path)
    work(make_worker(catalog, publisher, SETTINGS), lambda: status(catalog, key) == "failed")
    assert "all 2 flats are damaged in the store" in catalog.reader(key).metadata()["reason"]


def test_a_tomogram_whose_results_cannot_be_written_fails_and_is_not_taken_up_again(
    server, catalog, publisher, tomogram, key, make_worker
):
    tomogram.append(frames(8))
    worker = make_worker(catalog, publisher, SETTINGS)
    work(worker, lambda: (catalog.summary(key).revision or 0) > 1)
    (server.data_dir / "data" / "tomograms" / str(key) / "volume" / "zarr.json").unlink()
    tomogram.append(frames(4, first=9))
    tomogram.close("complete", None)
    work(worker, lambda: status(catalog, key) == "failed")
    assert "its results cannot be written" in catalog.reader(key).metadata()["reason"]
    assert "zarr.json is missing" in catalog.reader(key).metadata()["reason"]
    work(worker, lambda: True)
    assert status(catalog, key) == "failed"
