"""Detectors of ophyd-async, whose files are announced by `stream_resource` and `stream_datum`.

Needs ophyd-async, which the package itself does not ask for. A detector plays what it was `show`n, one entry an
exposure, and writes it to HDF5 or TIFF files; documents, triggering and flying are ophyd-async's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from ophyd_async.core import (
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    StandardDetector,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    soft_signal_r_and_setter,
)

from pfitre_service.errors import InputError
from pfitre_service.twin.beamlines.frame_file import Entry, GrowingFile, Layout

IMAGES = "/entry/data/data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How a detector writes."""

    layout: Layout = field(default_factory=Layout)
    """Of each HDF5 file."""
    frames_per_file: int | None = None
    """After so many frames the next file begins, with a stream_resource of its own; None puts all into one."""
    tiff: bool = False
    """One TIFF file a frame in place of HDF5."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What the detector records under one data key."""

    path: str
    """Inside the HDF5 file."""
    entry: Entry
    announced: bool = True
    """Whether documents speak of it."""


class StreamDetector(StandardDetector):
    """Datasets that grow by one entry an exposure: the images of a camera, the encoder of a PandA box."""

    def __init__(
        self, name: str, folder: Path, datasets: Mapping[str, Dataset], writing: Writing | None = None
    ) -> None:
        """datasets: by data key. TIFF files hold the only one."""
        self._player = _Player(folder.resolve(), dict(datasets), writing or Writing())
        self.add_detector_logics(_Trigger(self._player), _Acquire(self._player), _Data(self._player))
        super().__init__(name=name)

    def show(self, **values: Iterable[Any]) -> None:
        """What the next exposures give: for each data key, one value an exposure."""
        self._player.coming = iter([dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)])


def camera(folder: Path, shape: tuple[int, int], writing: Writing | None = None) -> StreamDetector:
    """A detector `camera` of 16-bit images (row, column)."""
    return StreamDetector("camera", folder, {"camera": Dataset(IMAGES, Entry(shape, "<u2"))}, writing)


def data_exchange_camera(folder: Path, shape: tuple[int, int], group: str) -> StreamDetector:
    """A detector named as its group, whose files hold images under `/exchange/{group}` and, unannounced, angles."""
    images = Dataset(f"/exchange/{group}", Entry(shape, "<u2"))
    angles = Dataset("/exchange/theta", Entry((), "<f8"), announced=False)
    return StreamDetector(group, folder, {group: images, "theta": angles})


def encoder(folder: Path, key: str) -> StreamDetector:
    """A PandA box that captures one encoder; data key and dataset have the name `key`."""
    return StreamDetector("panda1", folder, {key: Dataset(f"/{key}", Entry((), "<f8"))})


class _Player:
    """Takes what is coming into one file after the other."""

    def __init__(self, folder: Path, datasets: dict[str, Dataset], writing: Writing) -> None:
        self.coming: Iterator[dict[str, Any]] = iter(())
        self.exposures = 1
        """How many one acquisition takes."""
        self.datasets, self.writing = datasets, writing
        self.written, self._tell_written = soft_signal_r_and_setter(int)
        self._folder = folder
        self._stem = ""
        self._count = 0
        self._file: GrowingFile | None = None

    def begin(self) -> None:
        """Begin a new series of files."""
        self.end()
        self._stem, self._count = uuid4().hex, 0
        self._tell_written(0)

    def end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    async def expose(self) -> None:
        for _ in range(self.exposures):
            values = next(self.coming, None)
            if values is None:
                raise InputError("the detector was asked for more exposures than it was shown")
            self._write(values)
            self._count += 1
            self._tell_written(self._count)
            await asyncio.sleep(0)  # who waits for the count may look at it

    def announced(self, part: int) -> StreamResourceDataProvider:
        """Announces the file number `part` of the series."""
        where = f"file://localhost{self._folder.as_posix()}/"
        return StreamResourceDataProvider(
            uri=where if self.writing.tiff else where + self._path(part).name,
            resources=[self._info(key, dataset) for key, dataset in self.datasets.items() if dataset.announced],
            mimetype="multipart/related;type=image/tiff" if self.writing.tiff else "application/x-hdf5",
            collections_written_signal=self.written,
        )

    def _info(self, key: str, dataset: Dataset) -> StreamResourceInfo:
        frame = dataset.entry.frame
        template = f"{self._stem}_{{:06d}}.tiff"
        return StreamResourceInfo(
            data_key=key,
            shape=frame,
            chunk_shape=self.writing.layout.shape(1 if frame else 1024, frame),
            dtype_numpy=dataset.entry.dtype,
            parameters={"template": template} if self.writing.tiff else {"dataset": dataset.path},
        )

    def _path(self, part: int) -> Path:
        return self._folder / f"{self._stem}_{part}.h5"

    def _write(self, values: Mapping[str, Any]) -> None:
        if self.writing.tiff:
            self._write_tiff(*values.values())
            return
        room = self.writing.frames_per_file
        if self._file is None or self._file.written == room:
            self.end()
            entries = {dataset.path: dataset.entry for dataset in self.datasets.values()}
            self._file = GrowingFile(self._path(self._count // room if room else 0), entries, self.writing.layout)
        self._file.append({self.datasets[key].path: value for key, value in values.items()})

    def _write_tiff(self, frame: Any) -> None:
        import tifffile

        self._folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(self._folder / f"{self._stem}_{self._count:06d}.tiff", frame)


class _Trigger(DetectorTriggerLogic):
    def __init__(self, player: _Player) -> None:
        self._player = player

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        del livetime, deadtime  # exposures take no time
        self._player.exposures = num


class _Acquire(DetectorAcquireLogic):
    def __init__(self, player: _Player) -> None:
        self._player = player
        self._task: asyncio.Task[None] | None = None

    async def start_acquiring(self) -> None:
        self._task = asyncio.create_task(self._player.expose())

    async def wait_for_idle(self) -> None:
        if self._task is not None:
            await self._task

    async def ensure_stopped(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class _Data(DetectorDataLogic):
    def __init__(self, player: _Player) -> None:
        self._player = player

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        del datakey_name  # the datasets have names of their own
        self._player.begin()
        return _Parts(self._player)

    async def stop(self) -> None:
        self._player.end()

    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        return [datakey_name] if datakey_name in self._player.datasets else []


class _Parts(StreamableDataProvider):
    """A series of files, each with a stream_resource whose indices begin at 0."""

    def __init__(self, player: _Player) -> None:
        self.collections_written_signal = player.written
        self._player = player
        self._parts = [player.announced(0)]

    async def make_datakeys(self, collections_per_event: int) -> dict[str, Any]:
        return dict(await self._parts[0].make_datakeys(collections_per_event))

    async def make_stream_docs(self, collections_written: int, collections_per_event: int) -> AsyncIterator[Any]:
        room = self._player.writing.frames_per_file or max(collections_written, 1)
        while len(self._parts) * room < collections_written:
            self._parts.append(self._player.announced(len(self._parts)))
        for part, provider in enumerate(self._parts):
            inside = min(max(collections_written - part * room, 0), room)
            async for document in provider.make_stream_docs(inside, collections_per_event):
                yield document
