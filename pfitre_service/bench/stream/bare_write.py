"""What the disk itself can do: the measure beside which a service's throughput is put."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

_BYTES = 1 << 30


def bare_write(path: Path, shape: tuple[int, int], frames: int) -> dict[str, float]:
    """`frames` uint16 images of `shape`, 1 GiB of them at most, written to a file one by one, and synced."""
    frame = np.random.default_rng(0).integers(0, 1 << 16, shape, np.uint16)
    count = max(1, min(frames, _BYTES // frame.nbytes))
    begin, cpu = time.perf_counter(), time.process_time()
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(frame.data)
        os.fsync(file.fileno())
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - begin
    return {"megabytes_per_second": count * frame.nbytes / 1e6 / seconds, "cpu_ms_per_frame": 1e3 * cpu / count}
