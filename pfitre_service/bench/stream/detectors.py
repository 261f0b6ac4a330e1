"""The stream benchmark's detector, and the two ways in which it hands out its frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pfitre_service.twin.beamlines.frame_file import Entry, GrowingFile

_DIFFERENT_IMAGES = 16
_MEAN_COUNTS = 1000.0
_DATASET = "/entry/data/data"
_FILE = "frames.h5"

Documents = Sequence[tuple[str, dict[str, Any]]]


class StreamDetector(Protocol):
    """Frames of one run, one after the other."""

    data_key: dict[str, Any]
    """Of the image, as the descriptor has it."""

    def announce(self, run: Any) -> Documents:
        """What comes after the descriptor of a run that event_model composes."""

    def expose(self, descriptor: dict[str, Any], number: int) -> tuple[Documents, dict[str, Any]]:
        """Take frame `number` (from 0): what comes before its event, and what the event's data say of the image."""

    def close(self) -> None:
        """No frame comes any more."""


class InlineDetector:
    """Images in the events themselves."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.data_key = {"source": "bench", "dtype": "array", "shape": list(shape), "dtype_numpy": "<u2"}
        self._images = _images(shape)

    def announce(self, run: Any) -> Documents:
        del run  # nothing but the events belongs to it
        return []

    def expose(self, descriptor: dict[str, Any], number: int) -> tuple[Documents, dict[str, Any]]:
        del descriptor
        return [], {"image": _frame(self._images, number)}

    def close(self) -> None:
        """Nothing is open."""


class FileDetector:
    """Images in an HDF5 file that is read while it grows (SWMR), each announced by a stream_datum."""

    def __init__(self, shape: tuple[int, int], folder: Path) -> None:
        self.data_key = {
            "source": "bench",
            "dtype": "array",
            "shape": [1, *shape],
            "dtype_numpy": "<u2",
            "external": "STREAM:",
        }
        self._images = _images(shape)
        self._file = GrowingFile(folder / _FILE, {_DATASET: Entry(shape, "<u2")})
        self._compose: Any = None

    def announce(self, run: Any) -> Documents:
        resource, self._compose = run.compose_stream_resource(
            mimetype="application/x-hdf5",
            uri=f"file://localhost{self._file.path.resolve().as_posix()}",
            data_key="image",
            parameters={"dataset": _DATASET, "chunk_shape": self.data_key["shape"]},
        )
        return [("stream_resource", resource)]

    def expose(self, descriptor: dict[str, Any], number: int) -> tuple[Documents, dict[str, Any]]:
        self._file.append({_DATASET: _frame(self._images, number)})
        indices, seq_nums = {"start": number, "stop": number + 1}, {"start": number + 1, "stop": number + 2}
        datum = self._compose(indices=indices, seq_nums=seq_nums, descriptor=descriptor, validate=False)
        return [("stream_datum", datum)], {}

    def close(self) -> None:
        self._file.close()


def stamp(number: int) -> tuple[int, int]:
    """The first two pixels of frame `number` (from 0): who reads it back can tell which one it is."""
    return number & 0xFFFF, number >> 16


def _images(shape: tuple[int, int]) -> NDArray[np.uint16]:
    """(image, row, column) counts."""
    return np.random.default_rng(0).poisson(_MEAN_COUNTS, (_DIFFERENT_IMAGES, *shape)).astype(np.uint16)


def _frame(images: NDArray[np.uint16], number: int) -> NDArray[np.uint16]:
    image = images[number % len(images)]
    image[0, :2] = stamp(number)
    return image
