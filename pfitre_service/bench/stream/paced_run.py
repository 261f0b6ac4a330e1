"""The beamline's side of the stream benchmark: one process, bluesky's own publisher, frames paced by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.bench.stream.detectors import FileDetector, InlineDetector, StreamDetector

_GREETING_S = 0.2
_SMALL, _SMALL_FRAMES, _SMALL_RATE = (256, 256), 60, 100.0
FIRST_ANGLE, LAST_ANGLE = -70.0, 70.0

Publish = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Sent:
    """What the publisher did, once it is done."""

    run_uid: str
    times: NDArray[np.float64]
    """(frame,) seconds since the epoch, just before each frame left the detector."""
    cpu_seconds: float
    """Of this process while it made and published the run."""


def publish(
    address: str, frames: int, rate: float, shape: tuple[int, int], folder: Path | None, link: Connection
) -> None:
    """Publish one run of `frames` uint16 images of `shape` (row, column) at `rate` a second to the proxy at `address`.

    The images stand in the events; with a `folder`, they lie in an HDF5 file there, which grows (SWMR) while stream
    datums announce what is in it. A small scan goes before that one: frames in files are large, and the worker shall
    have something to do that any machine can hold in memory.
    Empty runs are sent first, until `link` says that one has arrived: a socket that connected a moment ago loses what
    it sends. The run's uid goes up `link` before its first event, `Sent` after its stop document.
    """
    from bluesky.callbacks.zmq import Publisher

    with closing(Publisher(address)) as publisher:
        greet(publisher, link)
        if folder is not None:
            publish_run(publisher, InlineDetector(_SMALL), _SMALL_FRAMES, _SMALL_RATE)
        with closing(InlineDetector(shape) if folder is None else FileDetector(shape, folder)) as detector:
            link.send(publish_run(publisher, detector, frames, rate, on_start=link.send))
        link.recv()  # what is still on its way in the socket would be lost with it


def greet(publish: Publish, link: Connection) -> None:
    """Sends empty runs until `link` says that one has arrived."""
    from event_model import compose_run

    while not link.poll(_GREETING_S):
        run = compose_run(metadata={"plan_name": "bench_greeting"})
        publish("start", run.start_doc)
        publish("stop", run.compose_stop())
    link.recv()


def publish_run(
    publish: Publish,
    detector: StreamDetector,
    frames: int,
    rate: float,
    on_start: Callable[[str], None] = lambda run_uid: None,
) -> Sent:
    """One run as a step scan with an area detector gives it; `on_start` is told its uid."""
    from event_model import compose_run

    times, cpu_before = np.zeros(frames), time.process_time()
    run = compose_run(metadata={"plan_name": "bench_stream", "num_points": frames, "motors": ["theta"]})
    publish("start", run.start_doc)
    on_start(run.start_doc["uid"])
    keys = {"theta": {"source": "bench", "dtype": "number", "shape": [], "units": "deg"}, "image": detector.data_key}
    stream = run.compose_descriptor(name="primary", data_keys=keys)
    publish("descriptor", stream.descriptor_doc)
    for name, document in detector.announce(run):
        publish(name, document)
    begin = time.monotonic()
    for number, angle in enumerate(np.linspace(FIRST_ANGLE, LAST_ANGLE, frames)):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))  # the detector's clock
        times[number] = time.time()
        documents, values = detector.expose(stream.descriptor_doc, number)
        for name, document in documents:
            publish(name, document)
        data = {"theta": float(angle), **values}
        stamps = dict.fromkeys(data, times[number])
        publish("event", stream.compose_event(data=data, timestamps=stamps, time=times[number], validate=False))
    publish("stop", run.compose_stop())
    return Sent(run.start_doc["uid"], times, time.process_time() - cpu_before)
