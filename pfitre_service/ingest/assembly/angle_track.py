"""Angles that another stream gives over time, for frames whose own time is known later or elsewhere.

Documents fill the track; the thread that reads detector files asks it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import DocumentError, InputError
from pfitre_service.ingest.assembly.file_references import FileRows
from pfitre_service.ingest.document_values import finite

_MAX_SAMPLES = 10_000_000
_SAME_CLOCK_S = 86_400.0
"""Frames further than this from every sample were timed by a clock that begins elsewhere."""


class AngleNotKnownYetError(InputError):
    """The stage has not told where it was at that time, and still may."""


class AngleTrack:
    """Samples (time, angle) of one run, in any order of arrival. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: list[float] = []
        self._angles: list[float] = []
        self._closed = False
        self._in_order = True
        """Whether the samples lie in the order of their times: one that was out of it is put there when it is asked
        for, not one by one, which takes time in the square of their number."""

    def add(self, time: float, angle: float) -> None:
        """Take in a sample: seconds since 1970, degrees."""
        with self._lock:
            if len(self._times) >= _MAX_SAMPLES:
                raise DocumentError(f"more than {_MAX_SAMPLES} samples of the angle came in one run")
            self._in_order = self._in_order and not (self._times and time < self._times[-1])
            self._times.append(time)
            self._angles.append(angle)

    def close(self) -> None:
        """No more samples come: beyond the last one, the stage stands still."""
        with self._lock:
            self._closed = True

    def at(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """(time,) degrees, linear between samples and still before the first.

        Raises AngleNotKnownYetError where a later sample may still come, InputError where none came at all.
        """
        with self._lock:
            self._sort()
            if not self._closed and (not self._times or self._times[-1] < times.max()):
                raise AngleNotKnownYetError("the stage has not moved on yet, so the angle of the last frames is open")
            if not self._times:
                raise InputError("no sample of the angle came in this run")
            _check_clocks(times, self._times[0], self._times[-1])
            return np.interp(times, self._times, self._angles)

    def _sort(self) -> None:
        if not self._in_order:
            order = np.argsort(self._times, kind="stable")
            self._times = np.array(self._times)[order].tolist()
            self._angles = np.array(self._angles)[order].tolist()
            self._in_order = True


@dataclass(frozen=True, slots=True, eq=False)
class AnglesAtTimes:
    """The angles of some frames, as soon as the track reaches beyond their times."""

    track: AngleTrack
    times: FileRows | tuple[float, ...]
    """Seconds, one for each frame or one for all; or the dataset with them."""
    offset_s: float = 0.0
    """Added to make them seconds since 1970."""


def _check_clocks(times: NDArray[np.float64], first: float, last: float) -> None:
    early, late = first - float(times.min()), float(times.max()) - last
    if not max(early, late) < _SAME_CLOCK_S:
        apart = early if early > late else -late
        raise InputError(
            f"frames were taken {apart:.0f} s away from the samples of the angle: their clocks differ "
            "(documents.angle_time_offset_s; EPICS counts from 1990, 631152000)"
        )


def sample_of(document: Mapping[str, Any], key: str, degrees_per_unit: float) -> tuple[float, float]:
    """(seconds since 1970, degrees) of an event of a monitored stage. Raises `DocumentError`."""
    data, stamps = document.get("data"), document.get("timestamps")
    angle = finite(data.get(key)) if isinstance(data, Mapping) else None
    stamp = finite(stamps.get(key)) if isinstance(stamps, Mapping) else None
    time = finite(document.get("time")) if stamp is None else stamp
    if angle is None or time is None:
        raise DocumentError(f"expected a number under {key!r} with its time stamp in an event of the angle's stream")
    return time, angle * degrees_per_unit
