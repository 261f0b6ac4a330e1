"""The beamline's side of the page's benchmark: glass beads, whose projections have a formula, at any size."""

from __future__ import annotations

from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.bench.stream.detectors import Documents
from pfitre_service.bench.stream.paced_run import FIRST_ANGLE, LAST_ANGLE, greet, publish_run

_BEADS = 24
_DENSITY = 0.02
_NOISE = 0.01


class BeadDetector:
    """Line integrals through beads, with noise, as the stage turns from the first angle to the last."""

    def __init__(self, shape: tuple[int, int], frames: int) -> None:
        """shape: (row, column) of a frame."""
        self.data_key = {"source": "bench", "dtype": "array", "shape": list(shape), "dtype_numpy": "<f4"}
        self._rows, self._columns = np.indices(shape, sparse=True)
        self._angles = np.radians(np.linspace(FIRST_ANGLE, LAST_ANGLE, frames))
        self._random = np.random.default_rng(5)
        rows, columns = shape
        across, radius = self._random.uniform(-0.3, 0.3, (2, _BEADS)), self._random.uniform(0.02, 0.12, _BEADS)
        self._beads = np.column_stack([columns * across.T, rows * self._random.random(_BEADS), columns * radius])

    def announce(self, run: Any) -> Documents:
        del run  # nothing but the events belongs to it
        return []

    def expose(self, descriptor: dict[str, Any], number: int) -> tuple[Documents, dict[str, Any]]:
        del descriptor
        return [], {"image": self.projection(number)}

    def projection(self, number: int) -> NDArray[np.float32]:
        """Frame `number`, (row, column): the chord of each ray through each bead."""
        cosine, sine = np.cos(self._angles[number]), np.sin(self._angles[number])
        image = self._random.normal(0.0, _NOISE, (self._rows.size, self._columns.size))
        for x, y, row, radius in self._beads:
            column = (self._columns.size - 1) / 2 + x * cosine + y * sine
            away = (self._columns - column) ** 2 + (self._rows - row) ** 2
            image += 2 * _DENSITY * np.sqrt(np.maximum(radius**2 - away, 0.0))
        return image.astype(np.float32)

    def close(self) -> None:
        """Nothing to give back."""


def publish_beads(address: str, shape: tuple[int, int], frames: int, rate: float, link: Connection) -> None:
    """Publish one run of `frames` frames of `shape` (row, column), `rate` a second, to the proxy at `address`; its uid
    goes up `link` before its first event. Empty runs go before it until `link` says that one has arrived."""
    from bluesky.callbacks.zmq import Publisher

    with closing(Publisher(address)) as publisher:
        greet(publisher, link)
        publish_run(publisher, BeadDetector(shape, frames), frames, rate, on_start=link.send)
        link.recv()  # what is still on its way in the socket would be lost with it
