"""Scans that run at the same time, through one thread."""

from __future__ import annotations

from pfitre_service.model import TomogramKey
from pfitre_service.store.writer_thread import StoreThread


def test_frames_of_interleaved_scans_are_written_together_and_in_order(catalog, key, make_frames, writes):
    other = TomogramKey(f"{key}-other")
    thread = StoreThread(catalog)
    for one in (key, other):
        thread.create(one, {})
    for number in range(1, 21):
        for one in (key, other):
            thread.append(one, make_frames(1, first=number))
    thread.finish(key, "complete", None)
    thread.append(other, make_frames(1, first=21))
    thread.finish(other, "complete", None)
    left = thread.close(20)
    assert (left.waiting_jobs, left.stored_frames, left.refused_frames) == (0, 41, 0)
    assert sum(frames for _, frames in writes) == 41
    assert len(writes) <= 10
    assert list(catalog.reader(key).angles()) == list(range(1, 21))
    assert list(catalog.reader(other).angles()) == list(range(1, 22))
    assert [catalog.reader(one).acquisition().state for one in (key, other)] == ["complete", "complete"]
