"""Flats and darks in files of their own: FILE, or FILE:PATH for a dataset inside an HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError

_TIFF = {".tif", ".tiff"}


def read_references(given: str, role: Literal["flat", "dark"]) -> NDArray[Any]:
    """Flats or darks from a TIFF file or folder, an array of NumPy (.npy), or an HDF5 file: the dataset after the
    colon, or the references of an NXtomo or Data Exchange file.

    Parameters
    ----------
    given
        FILE or FILE:PATH.
    role
        flat or dark.

    Returns
    -------
    NDArray[Any]
        (frame, row, column), as stored; one image is a stack of one.

    Raises
    ------
    InputError
        The file cannot be read, or holds something else.
    """
    path, inside = _split(given)
    if inside:
        stack = _dataset(path, inside)
    elif path.is_dir() or path.suffix.lower() in _TIFF:
        from pfitre_service.ingest.scan_files.tiff_stack import read_stack

        stack = read_stack(path)
    elif path.suffix.lower() == ".npy":
        stack = _array(path)
    else:
        stack = _of_scan_file(path, role)
    stack = stack[np.newaxis] if stack.ndim == 2 else stack
    if stack.ndim != 3 or 0 in stack.shape or stack.dtype.kind not in "iuf":
        raise InputError(
            f"{given}: expected {role} fields (frame, row, column), got {stack.dtype} of shape {stack.shape}"
        )
    return stack


def _split(given: str) -> tuple[Path, str]:
    """A name with a colon in it is a file if there is one; else what stands before a colon must be."""
    path = Path(given).expanduser()
    if path.exists():
        return path, ""
    before, colon, inside = given.rpartition(":")
    if colon and Path(before).expanduser().is_file():
        return Path(before).expanduser(), inside
    raise InputError(f"no such file or folder: {given}; expected FILE, or FILE:PATH for a dataset in an HDF5 file")


def _dataset(path: Path, name: str) -> NDArray[Any]:
    from pfitre_service.ingest.hdf5_values import dataset_at, frames, with_file

    def read(file: Any) -> NDArray[Any]:
        dataset = dataset_at(file, name)
        if dataset is None:
            raise InputError(f"{path} has no dataset {name!r}; its root holds {', '.join(sorted(file)) or 'nothing'}")
        return frames(dataset)

    return with_file(path, read)


def _array(path: Path) -> NDArray[Any]:
    try:
        loaded: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an array of NumPy: {error!s:.200}") from error
    return loaded


def _of_scan_file(path: Path, role: Literal["flat", "dark"]) -> NDArray[Any]:
    from pfitre_service.ingest.hdf5_values import with_file
    from pfitre_service.ingest.scan_files import data_exchange, nxtomo

    def read(file: Any) -> NDArray[Any] | None:
        entries = [*nxtomo.nxtomo_entries(file)]
        return nxtomo.references_in(entries[0], path, role) if entries else data_exchange.references_in(file, role)

    found = with_file(path, read)
    if found is None:
        raise InputError(
            f"{path} holds no {role} fields where NXtomo and Data Exchange have them; name them as {path}:PATH"
        )
    return found
