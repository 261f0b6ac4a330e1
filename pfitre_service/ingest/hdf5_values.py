"""What stored scans in HDF5 have in common: reading once, units, pixel sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import h5py
import hdf5plugin  # noqa: F401  (registers the filters that detectors compress with)
import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.angle_units import KNOWN, degrees_per
from pfitre_service.ingest.hdf5_references import anywhere, child, explain_dangling, whole

_Read = TypeVar("_Read")
_IN_NM = {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9}


def with_file(path: Path, read: Callable[[h5py.File], _Read]) -> _Read:
    """`read(file)`. Raises `InputError` for what is no readable HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            return read(file)
    except (OSError, RuntimeError, KeyError) as error:
        reason = str(error)[:200]
        raise InputError(f"{path}: cannot be read as HDF5 (damaged, cut short, or still written?): {reason}") from error


def dataset_at(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """The dataset, of which every part is there; None where there is none or an empty one.

    Raises `InputError` for a group, for a link that leads nowhere, and for data in files that are missing or too short.
    """
    if group.get(name) is None:
        explain_dangling(group, name)
        return None
    found = child(group, name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{group.file.filename}: expected a dataset at {group.name}/{name}, found a group")
    return whole(found, anywhere) if found.shape and found.size else None


def frames(dataset: h5py.Dataset, chosen: NDArray[np.intp] | None = None) -> NDArray[Any]:
    """(frame, row, column): all frames or the `chosen` ones (ascending), read straight to their place in memory."""
    if chosen is None:
        whole: NDArray[Any] = dataset[()]
        return whole
    stack = np.empty((len(chosen), *dataset.shape[1:]), dataset.dtype)
    place = 0
    for block in np.split(chosen, np.flatnonzero(np.diff(chosen) != 1) + 1):
        if len(block):
            dataset.read_direct(stack, np.s_[block[0] : block[-1] + 1], np.s_[place : place + len(block)])
            place += len(block)
    return stack


def degrees(dataset: h5py.Dataset) -> NDArray[np.float64]:
    """(angle,) degrees, by the dataset's attribute `units`; without one they are degrees. Texts of numbers are read.

    Raises `InputError` for what are no numbers, and for units that are none of an angle.
    """
    where = f"{dataset.file.filename}: {dataset.name}"
    try:
        values = np.array([float(value) for value in np.ravel(dataset[()])], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: expected numbers as angles, got {dataset.dtype}") from error
    units = text(dataset.attrs.get("units", "")).strip() or "degrees"
    factor = degrees_per(units)
    if factor is None:
        raise InputError(f"{where}: expected one of the units {KNOWN}, got {units!r:.40}")
    return values * factor


def length_nm(group: h5py.Group, name: str) -> float | None:
    """One positive length in nanometres; None where there is none, or no unit of length."""
    dataset = group.get(name)
    if not isinstance(dataset, h5py.Dataset) or dataset.size != 1 or dataset.dtype.kind not in "iuf":
        return None
    scale = _IN_NM.get(text(dataset.attrs.get("units", "")).strip())
    value = float(np.ravel(dataset[()])[0])
    return value * scale if scale is not None and np.isfinite(value) and value > 0 else None


def attribute(group: h5py.Group, name: str) -> str:
    """An attribute as text; empty where there is none."""
    attributes: Mapping[str, Any] = group.attrs
    return text(attributes.get(name, ""))


def text(value: Any) -> str:
    """A text however it was stored: bytes, an array of one, or itself."""
    value = np.ravel(value)[0] if np.size(value) else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
