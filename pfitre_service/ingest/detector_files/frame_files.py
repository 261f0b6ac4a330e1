"""Images and values out of files that a detector may still be writing, and only from folders that were allowed."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.assembly.actions import ReadFrames
from pfitre_service.ingest.assembly.angle_track import AnglesAtTimes
from pfitre_service.ingest.assembly.file_references import FileRows, FileSource
from pfitre_service.ingest.assembly.scanned_maps import ScannedMap
from pfitre_service.ingest.numbered_names import numbered_name
from pfitre_service.model import Frame

_DRIVE = re.compile(r"/?[A-Za-z]:(?=/|$)")


class NotReadableYetError(InputError):
    """The file may become readable: it is not there yet, is locked by its writer, or is shorter than announced."""


class FrameFiles:
    """Reads announced rows. Files are opened anew each time, so that what was written since is seen."""

    def __init__(
        self, roots: Sequence[str], path_map: Mapping[str, str] | None = None, *, settled_s: float = 0.0
    ) -> None:
        """roots: folders that may be read; path_map: see `DocumentRules`; settled_s: a file that has not changed for so
        long is taken to be no longer written."""
        self._settled_s = settled_s
        self._roots = [Path(root).expanduser().resolve() for root in roots]
        self._path_map = sorted((path_map or {}).items(), key=lambda pair: len(pair[0]), reverse=True)

    def images(self, rows: FileRows) -> NDArray[Any]:
        """(frame, row, column). Raises `NotReadableYetError`, and `InputError` for what will never be read."""
        source = rows.source
        if source.template:
            return self._sequence(rows)
        path = self._file(source, "")
        if source.kind == "tiff":
            return _pages(path, rows.first, rows.stop)
        return self._hdf5(path, rows, trailing=2)

    def values(self, rows: FileRows) -> NDArray[np.float64]:
        """(frame,): one number a frame. Raises as `images` does."""
        return self._hdf5(self._file(rows.source, ""), rows, trailing=0).astype(np.float64)

    def allowed(self, path: str) -> Path:
        """The file behind `path`, links and `..` resolved, if it lies in one of the roots. Raises `InputError`."""
        here = self._here(path)
        if here.startswith("//") or _DRIVE.match(here):
            raise InputError(
                f"{path} is on another machine: say where its folder is mounted here, in documents.path_map"
            )
        return self._placed(Path(here))

    def _placed(self, path: Path) -> Path:
        real = path.resolve()
        if not any(real.is_relative_to(root) for root in self._roots):
            roots = ", ".join(map(str, self._roots)) or "none is set"
            raise InputError(f"{path} is outside the folders that may be read (documents.roots: {roots})")
        return real

    def _here(self, path: str) -> str:
        """The path on this machine. A detector on Windows writes backslashes, and either case of its drive; a uri has
        a slash before the drive."""
        plain = _comparable(path)
        for there, here in self._path_map:
            beginning = _comparable(there).rstrip("/")
            if plain == beginning or plain.startswith(beginning + "/"):
                return here.rstrip("/") + "/" + plain[len(beginning) :].lstrip("/")
        return plain if plain.startswith("//") or _DRIVE.match(plain) else path

    def _file(self, source: FileSource, name: str) -> Path:
        """The file of a source, or the file `name` in its folder. Raises as `images` does."""
        paths = [str(Path(path) / name) if name else path for path in filter(None, (source.path, source.other_path))]
        for path in paths:
            with suppress(InputError):
                if (found := self.allowed(path)).exists():
                    return found
        raise NotReadableYetError(f"{self.allowed(paths[0])} is not there yet")

    def _hdf5(self, path: Path, rows: FileRows, *, trailing: int) -> NDArray[Any]:
        import hdf5plugin  # noqa: F401  (registers the filters that detectors compress with)

        from pfitre_service.ingest.hdf5_references import NotWholeError, opened, whole

        try:
            with _open(path) as file, opened(file, rows.source.dataset, self._placed) as dataset:
                images = _flat_rows(dataset, rows, trailing, path, partial(whole, dataset, self._placed))
                if trailing and self._may_be_filler(dataset, images, path):
                    raise NotReadableYetError(
                        f"{path} holds nothing but {dataset.fillvalue} where frames were announced"
                    )
                return images
        except NotWholeError as error:
            raise NotReadableYetError(f"{error} (yet)") from error
        except (OSError, RuntimeError, KeyError) as error:
            raise NotReadableYetError(f"{path} cannot be read yet: {str(error)[:160]}") from error

    def _may_be_filler(self, dataset: Any, images: NDArray[Any], path: Path) -> bool:
        """Whether a frame is what its file was filled with beforehand: HDF5 does not know what of a contiguous dataset
        was written. A file that has rested for a while is taken as it is."""
        if dataset.chunks is not None or dataset.is_virtual or time.time() - path.stat().st_mtime > self._settled_s:
            return False
        return any(bool((frame == dataset.fillvalue).all()) for frame in images)

    def _sequence(self, rows: FileRows) -> NDArray[Any]:
        """Frames of numbered files, `frames_per_file` in each."""
        source, each, blocks = rows.source, rows.source.frames_per_file, []
        for number in range(rows.first // each, -(-rows.stop // each)):
            path = self._file(source, numbered_name(source.template, number))
            first, stop = max(rows.first - number * each, 0), min(rows.stop - number * each, each)
            if source.kind == "tiff":
                blocks.append(_pages(path, first, stop))
            else:
                inner = FileRows(FileSource("hdf5", source.path, source.dataset), first, stop)
                blocks.append(self._hdf5(path, inner, trailing=2))
        if len({block.shape[1:] for block in blocks}) > 1:
            raise InputError(f"{source.path}: expected images (row, column) of one shape")
        return np.concatenate(blocks)


def _comparable(path: str) -> str:
    """With slashes, and of Windows with a large drive letter and no slash before it."""
    plain = path.replace("\\", "/")
    drive = _DRIVE.match(plain)
    return drive[0].lstrip("/").upper() + plain[drive.end() :] if drive else plain


def _open(path: Path) -> Any:
    """As a reader beside a writer; a file that was not written for that is opened in the ordinary way."""
    import h5py

    try:
        return h5py.File(path, "r", libver="latest", swmr=True)
    except (OSError, ValueError):
        return h5py.File(path, "r")


def _pages(path: Path, first: int, stop: int) -> NDArray[Any]:
    """Pages of a TIFF file, (page, row, column)."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            if len(file.pages) < stop:
                raise NotReadableYetError(f"{path} holds {len(file.pages)} pages so far, {stop} were announced")
            images = [np.asarray(file.pages[number].asarray()) for number in range(first, stop)]
    except (tifffile.TiffFileError, ValueError, OSError, IndexError, KeyError, RuntimeError) as error:
        raise NotReadableYetError(f"{path} cannot be read yet: {str(error)[:160]}") from error
    if len({image.shape for image in images}) > 1 or images[0].ndim != 2:
        shapes = ", ".join(str(shape) for shape in {image.shape for image in images})
        raise InputError(f"{path}: expected images (row, column) of one shape, got {shapes}")
    return np.stack(images)


def _flat_rows(
    dataset: Any, rows: FileRows, trailing: int, path: Path, whole: Callable[[int, int], Any]
) -> NDArray[Any]:
    """Rows counted over all axes but the last `trailing`: (frame, ...). Axes of length one may stand before.

    whole: gives the dataset once a range of its first axis is known to be there.
    """
    if dataset.ndim <= trailing:
        raise InputError(
            f"{path}: expected {trailing + 1} axes or more in {rows.source.dataset!r}, got {dataset.shape}"
        )
    leading, inner = dataset.shape[: dataset.ndim - trailing], dataset.shape[dataset.ndim - trailing :]
    available = math.prod(leading)
    if available < rows.stop:
        raise NotReadableYetError(f"{path} holds {available} frames so far, {rows.stop} were announced")
    # One axis of the leading ones carries the frames (1, N) or (N, 1); or events of several frames each, (N, frames).
    if leading[0] == 1 and len(leading) > 1:
        picked = whole(0, 0)[(0, *(0,) * (len(leading) - 2), slice(rows.first, rows.stop))]
        return np.asarray(picked).reshape(-1, *inner)
    each = math.prod(leading[1:])
    first, last = rows.first // each, -(-rows.stop // each)
    block = np.asarray(whole(first, last)[first:last]).reshape(-1, *inner)
    return block[rows.first - first * each : rows.stop - first * each]


def frames_of(job: ReadFrames, files: FrameFiles) -> tuple[Frame, ...]:
    """The frames of one event.

    Raises NotReadableYetError and AngleNotKnownYetError for what may still come, InputError for what never will.
    """
    match job.images:
        case FileRows():
            images = files.images(job.images)
        case ScannedMap():
            images = job.images.evaluate(files.values)
        case _:
            images = job.images
    angles = _angles(job, len(images), files)
    return tuple(
        Frame(image, job.role, float(angle), job.seq_num, job.time, job.run_uid, job.stream, part, job.event_uid)
        for part, (image, angle) in enumerate(zip(images, angles, strict=True))
    )


def _angles(job: ReadFrames, count: int, files: FrameFiles) -> NDArray[np.float64]:
    match job.angles:
        case FileRows():
            angles = files.values(job.angles)
            angles = angles * job.degrees_per_unit
        case AnglesAtTimes(track, times, offset_s):
            moments = files.values(times) if isinstance(times, FileRows) else np.asarray(times, np.float64)
            angles = track.at(moments + offset_s)
        case _:
            angles = np.asarray(job.angles, np.float64)
    if angles.size not in (1, count):
        raise InputError(f"expected one angle or {count}, one for each frame, got {angles.size}")
    if job.role == "projection" and not np.isfinite(angles).all():
        raise InputError("expected finite angles; some are not")
    return np.broadcast_to(angles.ravel(), count)
