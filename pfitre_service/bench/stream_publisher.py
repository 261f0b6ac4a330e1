"""The beamline's side of the stream benchmark: one process, bluesky's own publisher, frames paced by the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIFFERENT_IMAGES = 16
_MEAN_COUNTS = 1000.0
_GREETING_S = 0.2


@dataclass(frozen=True, slots=True)
class Sent:
    """What the publisher did, once it is done."""

    run_uid: str
    times: NDArray[np.float64]
    """(frame,) seconds since the epoch, just before each event was published."""
    cpu_seconds: float
    """Of this process while it published the run."""


def publish(address: str, frames: int, rate: float, shape: tuple[int, int], link: Connection) -> None:
    """Publish one run of `frames` uint16 images of `shape` (row, column) at `rate` a second to the proxy at `address`.

    Empty runs are sent first, until `link` says that one has arrived: a socket that connected a moment ago loses what
    it sends. The run's uid goes up `link` before its first event, `Sent` after its stop document.
    """
    from bluesky.callbacks.zmq import Publisher

    publisher = Publisher(address)
    try:
        while not link.poll(_GREETING_S):
            for name, document in _documents(0, shape):
                publisher(name, document)
        link.recv()
        link.send(_publish_run(publisher, frames, rate, shape, link))
        link.recv()  # what is still on its way in the socket would be lost with it
    finally:
        publisher.close()


def stamp(number: int) -> tuple[int, int]:
    """The first two pixels of frame `number` (from 0): who reads it back can tell which one it is."""
    return number & 0xFFFF, number >> 16


def _publish_run(publisher: Any, frames: int, rate: float, shape: tuple[int, int], link: Connection) -> Sent:
    times = np.zeros(frames)
    cpu_before = time.process_time()
    run_uid, number, begin = "", 0, 0.0
    for name, document in _documents(frames, shape):
        if name == "start":
            run_uid = document["uid"]
            link.send(run_uid)
        elif name == "event":
            begin = time.monotonic() if number == 0 else begin
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))  # the detector's clock
            times[number] = document["time"] = time.time()
            number += 1
        publisher(name, document)
    return Sent(run_uid, times, time.process_time() - cpu_before)


def _documents(frames: int, shape: tuple[int, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """One run as an area detector with inline images gives it; angles over 140 degrees."""
    from event_model import compose_run

    run = compose_run(metadata={"plan_name": "bench_stream", "num_points": frames, "motors": ["theta"]})
    yield "start", run.start_doc
    if frames:
        keys = {
            "theta": {"source": "bench", "dtype": "number", "shape": [], "units": "deg"},
            "image": {"source": "bench", "dtype": "array", "shape": list(shape), "dtype_numpy": "<u2"},
        }
        stream = run.compose_descriptor(name="primary", data_keys=keys)
        yield "descriptor", stream.descriptor_doc
        images = np.random.default_rng(0).poisson(_MEAN_COUNTS, (_DIFFERENT_IMAGES, *shape)).astype(np.uint16)
        for number, angle in enumerate(np.linspace(-70.0, 70.0, frames)):
            image = images[number % _DIFFERENT_IMAGES]
            image[0, :2] = stamp(number)
            data = {"theta": float(angle), "image": image}
            yield "event", stream.compose_event(data=data, timestamps=dict.fromkeys(data, 0.0), validate=False)
    yield "stop", run.compose_stop()
