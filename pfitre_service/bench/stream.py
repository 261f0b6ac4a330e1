"""`pfitre bench stream`: frames from a publisher through 0MQ into the catalogue, at the pace of a detector.

Nothing is simulated but the detector: bluesky's own publisher in a process of its own, a whole service (proxy, ingest,
Tiled, worker) with its own supervisor, on the disk of a temporary folder. What was stored is read back from the
catalogue, frame by frame. Beside it, one process writes the same bytes to the same disk plainly.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.bench.stream_publisher import Sent, publish, stamp
from pfitre_service.bench.stream_service import StreamService, wait_for
from pfitre_service.errors import ServiceError

_LOOK_S = 0.2
_HEARD_S = 30.0
_STALLED_S = 30.0
_READ_FRAMES = 512
_BARE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class StreamParameters:
    """One benchmark."""

    rate: float = 500.0
    """Frames a second."""
    shape: tuple[int, int] = (256, 256)
    """(row, column) of a uint16 frame."""
    seconds: float = 60.0
    """Length of the scan."""

    @property
    def frames(self) -> int:
        """Frames of the scan."""
        return max(1, round(self.rate * self.seconds))

    @property
    def frame_bytes(self) -> int:
        """Of one frame."""
        return 2 * self.shape[0] * self.shape[1]


def run(parameters: StreamParameters, ports: Sequence[int], folder: Path | None = None) -> dict[str, Any]:
    """Runs the benchmark on the free `ports` (`stream_service.PORTS` of them) in a temporary folder below `folder`.

    Raises ServiceError when the service does not start, or hears nothing.
    """
    with tempfile.TemporaryDirectory(prefix="pfitre-bench-", dir=folder) as name:
        service = StreamService(Path(name), ports)
        with service.running():
            result = _stream(parameters, service)
        bare = _bare_write(parameters, Path(name) / "bare")
    path = sum(result["cpu_ms_per_frame"].get(process, 0.0) for process in ("proxy", "ingest", "tiled"))
    return {
        **asdict(parameters),
        "megabytes_per_second": parameters.rate * parameters.frame_bytes / 1e6,
        **result,
        "bare_write": bare,
        "cpu_over_bare_write": path / bare["cpu_ms_per_frame"] if path else None,
        "share_of_bare_write": result["stored_megabytes_per_second"] / bare["megabytes_per_second"],
    }


def render(result: dict[str, Any]) -> str:
    """The result for people."""
    lag, bare = result["lag_seconds"], result["bare_write"]
    cpu = ", ".join(f"{name} {value:.2f}" for name, value in result["cpu_ms_per_frame"].items())
    over = "" if result["cpu_over_bare_write"] is None else f", {result['cpu_over_bare_write']:.0f} times the CPU"
    return "\n".join(
        [
            f"{result['shape'][0]} x {result['shape'][1]} uint16 at {result['achieved_rate']:.0f} of "
            f"{result['rate']:g} a second for {result['seconds']:g} s ({result['megabytes_per_second']:.0f} MB/s)",
            f"sent {result['sent']}, stored {result['stored']}, lost {result['lost']}, refused {result['refused']}, "
            f"wrong {result['wrong']}",
            f"from event to stored row: median {lag['median']:.2f} s, 95 % {lag['p95']:.2f} s, "
            f"longest {lag['max']:.2f} s, last frame {lag['at_end']:.2f} s (read every {_LOOK_S:g} s)",
            f"CPU ms a frame: {cpu}",
            f"a bare write of the same bytes: {bare['megabytes_per_second']:.0f} MB/s, "
            f"{bare['cpu_ms_per_frame']:.3f} ms of CPU a frame; "
            f"the service took {100 * result['share_of_bare_write']:.0f} % of that rate{over}",
        ]
    )


def _stream(parameters: StreamParameters, service: StreamService) -> dict[str, Any]:
    spawner = multiprocessing.get_context("spawn")
    link, far = spawner.Pipe()
    arguments = (service.publish_address, parameters.frames, parameters.rate, parameters.shape, far)
    publisher = spawner.Process(target=publish, args=arguments, name="bench-publisher", daemon=True)
    publisher.start()
    far.close()
    try:
        wait_for(lambda: service.ingest().get("documents", {}).get("stop"), _HEARD_S, "ingest heard no document")
        before = service.cpu_seconds()
        link.send("heard")
        looks, sent = _watch(link.recv(), link, service)
        after, ingest = service.cpu_seconds(), service.ingest()
        link.send("done")
        publisher.join(_HEARD_S)
    finally:
        publisher.kill()
        publisher.join()
    cpu = {"publisher": sent.cpu_seconds, **{name: after[name] - before[name] for name in before}}
    stored = int(looks[-1, 1])
    return {
        "sent": parameters.frames,
        "stored": stored,
        "lost": parameters.frames - stored,
        "refused": int(ingest["refused_by_store"]) + sum(ingest["refused"].values()),
        "wrong": _wrong(service, sent.run_uid, stored),
        "achieved_rate": (parameters.frames - 1) / max(float(np.ptp(sent.times)), 1e-9),
        "stored_megabytes_per_second": stored * parameters.frame_bytes / 1e6 / float(looks[-1, 0] - sent.times[0]),
        "lag_seconds": _lag(looks, sent.times),
        "cpu_ms_per_frame": {name: 1e3 * seconds / parameters.frames for name, seconds in cpu.items()},
        "cpu_share": {name: seconds / float(looks[-1, 0] - sent.times[0]) for name, seconds in cpu.items()},
    }


def _watch(run_uid: str, link: Connection, service: StreamService) -> tuple[NDArray[np.float64], Sent]:
    """Looks at the catalogue until the acquisition has ended there, or nothing is added any more.

    Returns (look, 2) float64: seconds since the epoch and frames stored by then; and what the publisher sent.
    """
    looks, sent, ended, moved = [(time.time(), 0)], None, False, time.monotonic()
    while not (sent is not None and (ended or time.monotonic() - moved > _STALLED_S)):
        if sent is None and link.poll(_LOOK_S):
            sent, moved = link.recv(), time.monotonic()
        elif sent is not None:
            time.sleep(_LOOK_S)
        stored, ended = service.stored(run_uid)
        if stored > looks[-1][1]:
            moved = time.monotonic()
        looks.append((time.time(), stored))
    return np.array(looks), sent


def _lag(looks: NDArray[np.float64], times: NDArray[np.float64]) -> dict[str, float]:
    """Seconds from each event to the look that first counted it; frames that were never counted are left out."""
    counted = min(int(looks[-1, 1]), len(times))
    if not counted:
        raise ServiceError("no frame was stored; see the log above")
    seen = looks[np.searchsorted(looks[:, 1], np.arange(1, counted + 1)), 0]
    lags = seen - times[:counted]
    return {
        "median": float(np.median(lags)),
        "p95": float(np.percentile(lags, 95)),
        "max": float(lags.max()),
        "at_end": float(lags[-1]),
    }


def _wrong(service: StreamService, run_uid: str, stored: int) -> int:
    """Stored frames that are not the one that was sent in their place."""
    wrong = 0
    for first in range(0, stored, _READ_FRAMES):
        stop = min(first + _READ_FRAMES, stored)
        found = np.frombuffer(service.first_pixels(run_uid, first, stop), np.uint16).reshape(-1, 2)
        wrong += int(np.any(found != [stamp(number) for number in range(first, stop)], axis=1).sum())
    return wrong


def _bare_write(parameters: StreamParameters, path: Path) -> dict[str, float]:
    """The same bytes, 1 GiB of them at most, written to a file of the same disk a frame at a time, and synced."""
    frames = max(1, min(parameters.frames, _BARE_BYTES // parameters.frame_bytes))
    frame = np.random.default_rng(0).integers(0, 1 << 16, parameters.shape, np.uint16)
    begin, cpu = time.perf_counter(), time.process_time()
    with path.open("wb", buffering=0) as file:
        for _ in range(frames):
            file.write(frame.data)
        cpu = time.process_time() - cpu
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begin
    return {
        "megabytes_per_second": frames * parameters.frame_bytes / 1e6 / seconds,
        "cpu_ms_per_frame": 1e3 * cpu / frames,
    }
