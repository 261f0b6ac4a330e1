"""`pfitre bench stream`: frames into the catalogue, through 0MQ or a growing file, at a detector's pace.

Nothing is simulated but the detector: bluesky's own publisher in a process of its own, a whole service (receive,
ingest, Tiled, worker) with its own supervisor, on the disk of a temporary folder. What was stored is read back from the
catalogue, frame by frame. Beside it, one process writes the same bytes to the same disk plainly.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.bench.running_service import RunningService, wait_for
from pfitre_service.bench.stream.paced_run import Sent, publish
from pfitre_service.errors import ServiceError

_LOOK_S = 0.5  # each costs the catalogue 30 ms of its time
_HEARD_S = 30.0
_STALLED_S = 30.0
_READ_FRAMES = 512


@dataclass(frozen=True, slots=True)
class StreamParameters:
    """One benchmark."""

    rate: float = 500.0
    """Frames a second."""
    shape: tuple[int, int] = (256, 256)
    """(row, column) of a uint16 frame."""
    seconds: float = 60.0
    """Length of the scan."""
    file: bool = False
    """Whether frames come in an HDF5 file that grows, and not in the documents."""
    kill: tuple[str, ...] = ()
    """Processes of the service that are killed (SIGKILL) one after the other while the scan runs."""

    @property
    def frames(self) -> int:
        """Frames of the scan."""
        return max(1, round(self.rate * self.seconds))

    @property
    def frame_bytes(self) -> int:
        """Of one frame."""
        return 2 * self.shape[0] * self.shape[1]


def run(parameters: StreamParameters, ports: Sequence[int], folder: Path | None = None) -> dict[str, Any]:
    """Runs the benchmark on the free `ports` (`running_service.PORTS` of them) in a temporary folder below `folder`.

    Raises ServiceError when the service does not start, or hears nothing.
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="pfitre-bench-", dir=folder) as name:
        frames, service = Path(name) / "frames", RunningService(Path(name) / "data", ports)
        with service.running([f"documents.roots={json.dumps([str(frames)])}"]):
            result = _stream(parameters, service, frames if parameters.file else None)
        shutil.rmtree(frames, ignore_errors=True)
        bare = bare_write(Path(name) / "bare", parameters.shape, parameters.frames)
    path = sum(result["cpu_ms_per_frame"].get(process, 0.0) for process in ("receive", "ingest", "tiled"))
    return {
        **asdict(parameters),
        "cores": os.cpu_count(),
        "load_before": load,
        "megabytes_per_second": parameters.rate * parameters.frame_bytes / 1e6,
        **result,
        "bare_write": bare,
        "cpu_over_bare_write": path / bare["cpu_ms_per_frame"] if path else None,
        "share_of_bare_write": result["stored_megabytes_per_second"] / bare["megabytes_per_second"],
    }


def _stream(parameters: StreamParameters, service: RunningService, folder: Path | None) -> dict[str, Any]:
    with _publisher(parameters, service.publish_address, folder) as link:
        wait_for(lambda: service.ingest().get("documents", {}).get("stop"), _HEARD_S, "ingest heard no document")
        before = service.cpu_seconds()
        link.send("heard")
        behind: list[float] = []
        looks, sent = _watch(link.recv(), link, service, _meanwhile(parameters, service, behind))
        after, ingest = service.cpu_seconds(), service.ingest()
        receive = service.processes()["receive"]["details"]
        link.send("done")
    lived = [name for name in before if name not in parameters.kill]
    cpu = {"publisher": sent.cpu_seconds, **{name: after[name] - before[name] for name in lived}}
    stored = int(looks[-1, 1])
    return {
        "sent": parameters.frames,
        "stored": stored,
        "lost": parameters.frames - stored,
        "refused": int(ingest["refused_by_store"]) + sum(ingest["refused"].values()),
        "unreadable": int(ingest["files"]["unreadable_frames"]),
        "wrong": count_wrong(service, sent.run_uid, stored),
        "achieved_rate": (parameters.frames - 1) / max(float(np.ptp(sent.times)), 1e-9),
        "stored_megabytes_per_second": stored * parameters.frame_bytes / 1e6 / float(looks[-1, 0] - sent.times[0]),
        "lag_seconds": lag_seconds(looks, sent.times),
        "behind_ms": float(np.median(behind)) if behind else None,
        "longest_keep_ms": receive["longest_keep_ms"],
        "longest_unsynced_ms": receive["longest_unsynced_ms"],
        "cpu_ms_per_frame": {name: 1e3 * seconds / parameters.frames for name, seconds in cpu.items()},
        "cpu_share": {name: seconds / float(looks[-1, 0] - sent.times[0]) for name, seconds in cpu.items()},
    }


@contextmanager
def _publisher(parameters: StreamParameters, address: str, folder: Path | None) -> Iterator[Connection]:
    """The publisher's process, and the pipe to it. Raises ServiceError where it ends before its time."""
    spawner = multiprocessing.get_context("spawn")
    link, far = spawner.Pipe()
    arguments = (address, parameters.frames, parameters.rate, parameters.shape, folder, far)
    process = spawner.Process(target=publish, args=arguments, name="bench-publisher", daemon=True)
    process.start()
    far.close()
    try:
        yield link
        process.join(_HEARD_S)
    except (EOFError, BrokenPipeError) as error:
        raise ServiceError("the publisher's process ended before its time; what it said is above") from error
    finally:
        process.kill()
        process.join()
        link.close()


def _meanwhile(parameters: StreamParameters, service: RunningService, behind: list[float]) -> Iterator[None]:
    """Kills what is to be killed, at even times from now on; to be asked again and again.

    behind: gets the milliseconds from the hearing of a message to its decoding, at each time.
    """
    if unknown := set(parameters.kill) - set(service.processes()):
        raise ServiceError(f"there is no process {', '.join(sorted(unknown))} to be killed")
    begin, pause = time.monotonic(), parameters.seconds / (len(parameters.kill) + 1)
    waiting = list(enumerate(parameters.kill, start=1))
    while True:
        processes = service.processes()
        behind += [spool["behind_ms"]] if (spool := processes["ingest"].get("details", {}).get("spool")) else []
        if waiting and time.monotonic() >= begin + waiting[0][0] * pause and "pid" in processes[waiting[0][1]]:
            os.kill(processes[waiting.pop(0)[1]]["pid"], signal.SIGKILL)
        yield


def _watch(
    run_uid: str, link: Connection, service: RunningService, meanwhile: Iterator[None]
) -> tuple[NDArray[np.float64], Sent]:
    """Looks at the catalogue until the acquisition has ended there, or nothing is added any more.

    Returns (look, 2) float64: seconds since the epoch and frames stored by then; and what the publisher sent.
    """
    looks, sent, ended, moved = [(time.time(), 0)], None, False, time.monotonic()
    while not (sent is not None and (ended or time.monotonic() - moved > _STALLED_S)):
        if sent is None and link.poll(_LOOK_S):
            sent, moved = link.recv(), time.monotonic()
        elif sent is not None:
            time.sleep(_LOOK_S)
        next(meanwhile)
        stored, ended = service.stored(run_uid)
        if stored > looks[-1][1]:
            moved = time.monotonic()
        looks.append((time.time(), stored))
    return np.array(looks), sent


def lag_seconds(looks: NDArray[np.float64], times: NDArray[np.float64]) -> dict[str, float]:
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
        "resolution": _LOOK_S,
    }


def count_wrong(service: RunningService, run_uid: str, stored: int) -> int:
    """Stored frames that do not follow, in the order in which they were sent, on the one before."""
    numbers = [np.array([-1])]
    for first in range(0, stored, _READ_FRAMES):
        stop = min(first + _READ_FRAMES, stored)
        found = np.frombuffer(service.first_pixels(run_uid, first, stop), np.uint16).reshape(-1, 2).astype(np.int64)
        numbers.append(found[:, 0] + (found[:, 1] << 16))
    return int((np.diff(np.concatenate(numbers)) <= 0).sum())


def bare_write(path: Path, shape: tuple[int, int], frames: int, *, most_bytes: int = 1 << 30) -> dict[str, float]:
    """`frames` uint16 images of `shape`, `most_bytes` of them at most, written to a file one by one, and synced."""
    frame = np.random.default_rng(0).integers(0, 1 << 16, shape, np.uint16)
    count = max(1, min(frames, most_bytes // frame.nbytes))
    begin, cpu = time.perf_counter(), time.process_time()
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(frame.data)
        os.fsync(file.fileno())
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - begin
    return {"megabytes_per_second": count * frame.nbytes / 1e6 / seconds, "cpu_ms_per_frame": 1e3 * cpu / count}


def render(result: dict[str, Any]) -> str:
    """The result of `stream.run` in a few lines."""
    lag, bare = result["lag_seconds"], result["bare_write"]
    cpu = ", ".join(f"{name} {value:.2f}" for name, value in result["cpu_ms_per_frame"].items())
    over = "" if result["cpu_over_bare_write"] is None else f", {result['cpu_over_bare_write']:.0f} times the CPU"
    way = "through a growing file" if result["file"] else "in the documents"
    return "\n".join(
        [
            f"{result['shape'][0]} x {result['shape'][1]} uint16 {way}, {result['achieved_rate']:.0f} of "
            f"{result['rate']:g} a second for {result['seconds']:g} s ({result['megabytes_per_second']:.0f} MB/s), "
            f"on {result['cores']} cores with a load of {result['load_before']:.1f} before",
            f"sent {result['sent']}, stored {result['stored']}, lost {result['lost']}, refused {result['refused']}, "
            f"unreadable {result['unreadable']}, wrong {result['wrong']}"
            + (f"; killed meanwhile: {', '.join(result['kill'])}" if result["kill"] else ""),
            f"from the detector to a stored row: median {lag['median']:.2f} s, 95 % {lag['p95']:.2f} s, "
            f"longest {lag['max']:.2f} s, last frame {lag['at_end']:.2f} s (looked at every {lag['resolution']:g} s)",
            f"CPU ms a frame: {cpu}",
            f"kept in the spool within {result['longest_keep_ms']:.1f} ms of being heard, and on the disk within "
            f"{result['longest_unsynced_ms']:.1f} ms of that, at the longest; "
            f"decoded {result['behind_ms'] or 0:.1f} ms after being heard (median)",
            f"a bare write of the same bytes: {bare['megabytes_per_second']:.0f} MB/s, "
            f"{bare['cpu_ms_per_frame']:.3f} ms of CPU a frame; "
            f"the service took {100 * result['share_of_bare_write']:.0f} % of that rate{over}",
        ]
    )
