"""The thread that reads detector files: what is waited for has one clock a file."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import h5py
import numpy as np

from pfitre_service.ingest import FrameFiles, ReadFrames
from pfitre_service.ingest.assembly.file_references import FileRows, FileSource
from pfitre_service.ingest.detector_files.loader_thread import ReadingThread, Unreadable
from pfitre_service.model import TomogramKey

KEY = TomogramKey("waited-for")
WAIT_S = 0.6


def job(path: Path, number: int) -> ReadFrames:
    rows = FileRows(FileSource("hdf5", str(path), "data"), number, number + 1)
    return ReadFrames(KEY, "projection", "primary", number + 1, 0.0, "run", rows, (float(number),), False)


def run(folder: Path, path: Path, frames: int, *, one_at_a_time: bool = False) -> tuple[list[int], Unreadable, float]:
    """seq_nums stored, what could not be read, and how long it took."""
    stored: list[int] = []
    ended: list[Unreadable] = []
    done = threading.Event()
    thread = ReadingThread(
        FrameFiles([str(folder)]), lambda key, read: stored.extend(frame.seq_num for frame in read), wait_s=WAIT_S
    )
    began = time.monotonic()
    for number in range(frames):
        thread.read(job(path, number))
        if one_at_a_time:
            passed = threading.Event()
            thread.after(TomogramKey("waited-for"), lambda lost, passed=passed: passed.set())
            assert passed.wait(30)
    thread.after(KEY, lambda lost: (ended.append(lost), done.set()))
    assert done.wait(30)
    took = time.monotonic() - began
    thread.close(5)
    return stored, ended[0], took


def test_a_file_that_never_comes_is_waited_for_once_for_all_its_frames(tmp_path: Path):
    stored, lost, took = run(tmp_path, tmp_path / "never.h5", 20)
    assert stored == []
    assert lost.frames == 20
    assert "never.h5 is not there yet; waited" in lost.reason
    assert took < 3 * WAIT_S


def test_a_file_that_comes_late_is_read_after_all_and_a_frame_that_lacks_costs_one_wait(tmp_path: Path):
    path = tmp_path / "late.h5"

    def write() -> None:
        with h5py.File(tmp_path / "writing", "w") as file:
            data = file.create_dataset("data", (6, 4, 5), "u2", chunks=(1, 4, 5))
            for number in (0, 1, 2, 4, 5):
                data[number] = np.full((4, 5), number + 1)
        (tmp_path / "writing").rename(path)

    writer = threading.Timer(WAIT_S / 3, write)
    writer.start()
    stored, lost, took = run(tmp_path, path, 6)
    writer.join()
    assert stored == [1, 2, 3, 5, 6]
    assert lost.frames == 1
    assert str(lost).startswith("1 frames could not be read (events 4): ")
    assert "frames 3 were never written" in lost.reason
    assert took < 4 * WAIT_S


def test_what_a_first_take_waits_for_is_given_up_when_the_event_is_taken_again(tmp_path: Path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((2, 4, 5), "u2")
    stored: list[int] = []
    done = threading.Event()
    thread = ReadingThread(
        FrameFiles([str(tmp_path)]), lambda key, read: stored.extend(frame.seq_num for frame in read), wait_s=60.0
    )
    thread.read(job(tmp_path / "never.h5", 0))
    thread.read(job(path, 1))
    thread.give_up_event(KEY, "run", "primary", 1)
    lost: list[Unreadable] = []
    thread.after(KEY, lambda what: (lost.append(what), done.set()))
    assert done.wait(30)
    thread.close(5)
    assert (stored, lost[0].frames) == ([2], 0)
