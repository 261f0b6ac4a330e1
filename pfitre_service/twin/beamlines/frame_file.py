"""HDF5 files that grow frame by frame, laid out as the writers of real detectors lay them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

IMAGES = "/entry/data/data"
"""Where area detectors' HDF5 files have their frames."""
TIME_STAMPS = "/entry/instrument/NDAttributes/NDArrayTimeStamp"
"""When each frame was taken, in seconds since EPICS' beginning of time."""
EPICS_EPOCH = 631_152_000.0
"""1990-01-01, EPICS' beginning of time, in seconds since 1970."""

Compression = Literal["none", "blosc", "bitshuffle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How frames lie in a file."""

    swmr: bool = True
    """Whether the file may be read while it is written (single writer, multiple readers)."""
    axes_before: int = 0
    """Axes of length one before the axis of the frames: 1 gives (1, frame, row, column)."""
    axes_after: int = 0
    """Axes of length one behind it: 1 gives (frame, 1, row, column)."""
    compression: Compression = "none"
    """Filter of the images."""

    def shape(self, frames: int, frame: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a dataset; scalars have no axes but that of the frames.

        Parameters
        ----------
        frames
            How many.
        frame
            Shape of one: (row, column), or () for a number.

        Returns
        -------
        tuple[int, ...]
            With the axes of length one.
        """
        if not frame:
            return (frames,)
        return (1,) * self.axes_before + (frames,) + (1,) * self.axes_after + frame


@dataclass(frozen=True, slots=True)
class Entry:
    """One dataset."""

    frame: tuple[int, ...]
    """Shape of what one frame adds: (row, column), or () for a number."""
    dtype: str
    """In numpy's spelling, such as "<u2"."""


class GrowingFile:
    """A file that this process writes; every frame is flushed, so that a reader may see it (with `Layout.swmr`).

    Parameters
    ----------
    path
        Of the file; its folder is made.
    entries
        By the path of the dataset inside the file.
    layout
        How frames lie in it; the defaults for None.
    """

    def __init__(self, path: Path, entries: Mapping[str, Entry], layout: Layout | None = None) -> None:
        import h5py

        self._layout = layout or Layout()
        self._entries = dict(entries)
        self.path = path
        self.written = 0
        """Frames in the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(path, "w", libver="latest" if self._layout.swmr else None)
        for name, entry in self._entries.items():
            self._create(name, entry)
        if self._layout.swmr:
            # From here on readers are let in, and no dataset can be added.
            self._file.swmr_mode = True

    def append(self, values: Mapping[str, Any]) -> None:
        """Adds one frame.

        Parameters
        ----------
        values
            One for every dataset.
        """
        axis = self._layout.axes_before
        for name, entry in self._entries.items():
            dataset = self._file[name]
            place = axis if entry.frame else 0
            dataset.resize(self.written + 1, axis=place)
            dataset[(slice(None),) * place + (self.written,)] = values[name]
            dataset.flush()
        self.written += 1
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _create(self, name: str, entry: Entry) -> None:
        shape = self._layout.shape(0, entry.frame)
        self._file.create_dataset(
            name,
            shape=shape,
            maxshape=tuple(length or None for length in shape),
            chunks=self._layout.shape(1 if entry.frame else 1024, entry.frame),
            dtype=np.dtype(entry.dtype),
            **_filter(self._layout.compression if entry.frame else "none"),
        )


def _filter(compression: Compression) -> Mapping[str, Any]:
    if compression == "none":
        return {}
    import hdf5plugin

    filters: dict[str, Mapping[str, Any]] = {"blosc": hdf5plugin.Blosc(), "bitshuffle": hdf5plugin.Bitshuffle()}
    return filters[compression]
