"""Data Exchange: the HDF5 layout of tomography at the APS, `/exchange/data` and its companions.

Read as DXchange and tomoscan write it (https://dxfile.readthedocs.io, https://tomoscan.readthedocs.io): references
under their own names before and after the scan, or as one number; angles in `theta`, or as a start and a step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.hdf5_values import dataset_at, degrees, frames, length_nm, with_file
from pfitre_service.ingest.scan_files.angle_table import read_angles
from pfitre_service.ingest.scan_files.stored_scan import StoredScan

_PIXEL_SIZES = (
    "measurement/instrument/detector/pixel_size",
    "measurement/instrument/detection_system/pixel_size",
    "measurement/instrument/detector/actual_pixel_size_x",
)
_ROTATION = "process/acquisition/rotation"
_WHITE = ("data_white", "data_white_pre", "data_white_post")
_DARK = ("data_dark", "data_dark_pre", "data_dark_post")
_CONSTANTS = {
    "flat": "process/acquisition/flat_fields/flat_field_value",
    "dark": "process/acquisition/dark_fields/dark_field_value",
}


def read_data_exchange(path: Path, angles: Path | None = None) -> StoredScan:
    """The scan in a file; references and the pixel size may be absent.

    Parameters
    ----------
    path
        HDF5 file.
    angles
        Table of degrees for a file without angles, and only for one.

    Returns
    -------
    StoredScan
        The whole scan.

    Raises
    ------
    InputError
        The file cannot be read, or holds something else.
    """
    return with_file(path, lambda file: _read(file, path, angles))


def _read(file: h5py.File, path: Path, angles: Path | None) -> StoredScan:
    projections = _stack(file, "data")
    if projections is None:
        found = ", ".join(sorted(file)) or "nothing"
        raise InputError(
            f"{path}: expected the dataset /exchange/data (Data Exchange) or an entry with the definition NXtomo; "
            f"the file's root holds {found}"
        )
    notes: list[str] = []
    degrees_of = _angles(file, path, angles, len(projections), notes)
    projections = _frames_first(projections, len(degrees_of), notes)
    flats = _references(file, _WHITE, "flat", projections, notes)
    return StoredScan(
        projections=projections,
        angles=degrees_of,
        flats=flats,
        darks=_references(file, _DARK, "dark", projections, notes),
        measurement=None if flats is None else "transmission",
        pixel_size_nm=next((size for name in _PIXEL_SIZES if (size := length_nm(file, name)) is not None), None),
        source=f"Data Exchange file {path}",
        notes=tuple(notes),
    )


def references_in(file: h5py.File, role: str) -> NDArray[Any] | None:
    """The flats or darks of a file; of one with a single stack and no angles, that stack.

    Parameters
    ----------
    file
        Open for reading.
    role
        flat or dark.

    Returns
    -------
    NDArray[Any] | None
        (frame, row, column); None where there are none.
    """
    stacks = [stack for name in (_WHITE if role == "flat" else _DARK) if (stack := _stack(file, name)) is not None]
    if stacks:
        return np.concatenate(stacks)
    return _stack(file, "data") if dataset_at(file, "exchange/theta") is None else None


def _angles(file: h5py.File, path: Path, table: Path | None, count: int, notes: list[str]) -> NDArray[np.float64]:
    theta, start, step = (dataset_at(file, name) for name in ("exchange/theta", *_steps(file)))
    if table is not None and (theta is not None or step is not None):
        raise InputError(f"{path}: the file holds its angles; leave --angles out")
    if theta is not None:
        return degrees(theta)
    if start is not None and step is not None:
        begin, each = (float(np.ravel(one[()])[0]) for one in (start, step))
        notes.append(f"angles: {begin:g} degrees and {each:g} more for each image, as {step.name} says")
        return begin + each * np.arange(count, dtype=np.float64)
    if table is not None:
        return read_angles(table).angles
    raise InputError(
        f"{path}: expected the angles in the dataset /exchange/theta, or rotation_start and rotation_step in "
        f"/{_ROTATION}, which are not there or empty; `pfitre reconstruct` takes a table of degrees with --angles"
    )


def _steps(file: h5py.File) -> tuple[str, str]:
    names = ("rotation_start", "rotation_step") if f"{_ROTATION}/rotation_step" in file else ("start", "step")
    return f"{_ROTATION}/{names[0]}", f"{_ROTATION}/{names[1]}"


def _references(
    file: h5py.File, names: tuple[str, ...], role: str, projections: NDArray[Any], notes: list[str]
) -> NDArray[Any] | None:
    rows, columns = projections.shape[1:]
    stacks = []
    for name in names:
        stack = _stack(file, name)
        if stack is None:
            continue
        if stack.ndim == 3 and stack.shape[1:] != (rows, columns) and stack.shape[::2] == (rows, columns):
            stack = np.swapaxes(stack, 0, 1)
        stacks.append(stack)
    if len(stacks) > 1:
        notes.append(f"{role} fields: those of {' and '.join(name for name in names if f'exchange/{name}' in file)}")
    if stacks:
        return np.concatenate(stacks)
    constant = dataset_at(file, _CONSTANTS[role])
    if constant is None or constant.size != 1 or constant.dtype.kind not in "iuf":
        return None
    value = float(np.ravel(constant[()])[0])
    notes.append(f"{role} field: {value:g} everywhere, as {constant.name} says")
    return np.full((1, rows, columns), value, np.float32)


def _frames_first(projections: NDArray[Any], count: int, notes: list[str]) -> NDArray[Any]:
    """(angle, row, column), of files that hold sinograms (row, angle, column) too."""
    if projections.ndim == 3 and len(projections) != count == projections.shape[1]:
        notes.append("the file holds sinograms, (row, angle, column), as its number of angles shows")
        return np.swapaxes(projections, 0, 1)
    return projections


def _stack(file: h5py.File, name: str) -> NDArray[Any] | None:
    """(frame, row, column): of one image a stack of one, and without an axis of length one in between."""
    dataset = dataset_at(file, f"exchange/{name}")
    if dataset is None:
        return None
    stack = frames(dataset)
    if stack.ndim == 2:
        return stack[np.newaxis]
    return stack[:, 0] if stack.ndim == 4 and stack.shape[1] == 1 else stack
