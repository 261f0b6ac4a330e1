"""Images and values out of files that a detector may still be writing, and only from folders that were allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.external import FileRows, FileSource


class NotReadableYetError(InputError):
    """The file may become readable: it is not there yet, is locked by its writer, or is shorter than announced."""


class FrameFiles:
    """Reads announced rows. Files are opened anew each time, so that what was written since is seen."""

    def __init__(self, roots: Sequence[str], path_map: Mapping[str, str] | None = None) -> None:
        """roots: folders that may be read; path_map: see `DocumentRules`."""
        self._roots = [Path(root).expanduser().resolve() for root in roots]
        self._path_map = sorted((path_map or {}).items(), key=lambda pair: len(pair[0]), reverse=True)

    def images(self, rows: FileRows) -> NDArray[Any]:
        """(frame, row, column). Raises `NotReadableYetError`, and `InputError` for what will never be read."""
        if rows.source.kind == "tiff":
            return self._tiff(rows)
        return self._hdf5(rows, trailing=2)

    def values(self, rows: FileRows) -> NDArray[np.float64]:
        """(frame,): one number a frame. Raises as `images` does."""
        return self._hdf5(rows, trailing=0).astype(np.float64)

    def allowed(self, path: str) -> Path:
        """The file behind `path`, links and `..` resolved, if it lies in one of the roots. Raises `InputError`."""
        real = Path(self._here(path)).resolve()
        if not any(real.is_relative_to(root) for root in self._roots):
            roots = ", ".join(map(str, self._roots)) or "none is set"
            raise InputError(f"{path} is outside the folders that may be read (documents.roots: {roots})")
        return real

    def _here(self, path: str) -> str:
        """The path on this machine. A detector on Windows writes backslashes; a uri has a slash before its drive."""
        plain = path.replace("\\", "/")
        for there, here in self._path_map:
            for beginning in (there.replace("\\", "/"), "/" + there.replace("\\", "/")):
                if plain.startswith(beginning):
                    return here + plain[len(beginning) :]
        return path

    def _hdf5(self, rows: FileRows, *, trailing: int) -> NDArray[Any]:
        import h5py
        import hdf5plugin  # noqa: F401  (registers the filters that detectors compress with)

        path = self.allowed(rows.source.path)
        if not path.exists():
            raise NotReadableYetError(f"{path} is not there yet")
        try:
            with _open(h5py, path) as file:
                dataset = file.get(rows.source.dataset)
                if not isinstance(dataset, h5py.Dataset):
                    raise NotReadableYetError(f"{path} has no dataset {rows.source.dataset!r} yet")
                return _flat_rows(dataset, rows, trailing, path)
        except (OSError, RuntimeError, KeyError) as error:
            raise NotReadableYetError(f"{path} cannot be read yet: {str(error)[:160]}") from error

    def _tiff(self, rows: FileRows) -> NDArray[Any]:
        import tifffile

        images = []
        for number in range(rows.first, rows.stop):
            path = self.allowed(str(Path(rows.source.path) / _file_name(rows.source, number)))
            if not path.exists():
                raise NotReadableYetError(f"{path} is not there yet")
            try:
                images.append(tifffile.imread(path))
            except (tifffile.TiffFileError, ValueError, OSError, IndexError) as error:
                raise NotReadableYetError(f"{path} cannot be read yet: {str(error)[:160]}") from error
        if len({image.shape for image in images}) > 1 or images[0].ndim != 2:
            raise InputError(f"{rows.source.path}: expected images (row, column) of one shape")
        return np.stack(images)


def _open(h5py: Any, path: Path) -> Any:
    """As a reader beside a writer; a file that was not written for that is opened in the ordinary way."""
    try:
        return h5py.File(path, "r", libver="latest", swmr=True)
    except (OSError, ValueError):
        return h5py.File(path, "r")


def _flat_rows(dataset: Any, rows: FileRows, trailing: int, path: Path) -> NDArray[Any]:
    """Rows counted over all axes but the last `trailing`: (frame, ...). Axes of length one may stand before."""
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
        picked = dataset[(0, *(0,) * (len(leading) - 2), slice(rows.first, rows.stop))]
        return np.asarray(picked).reshape(-1, *inner)
    each = math.prod(leading[1:])
    first, last = rows.first // each, -(-rows.stop // each)
    block = np.asarray(dataset[first:last]).reshape(-1, *inner)
    return block[rows.first - first * each : rows.stop - first * each]


def _file_name(source: FileSource, number: int) -> str:
    template = source.template
    try:
        name = template % number if "%" in template else template.format(number)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise InputError(f"the template {template!r:.80} of a TIFF sequence cannot take a number: {error}") from error
    if "/" in name or name in ("", ".", ".."):
        raise InputError(f"the template {template!r:.80} must name a file in its folder, got {name!r:.80}")
    return name
