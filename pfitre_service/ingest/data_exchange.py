"""Data Exchange: the HDF5 layout of tomography at the APS, `/exchange/data` and its companions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.stored_scan import StoredScan

_IN_NM = {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9}
_PIXEL_SIZES = (
    "measurement/instrument/detector/pixel_size",
    "measurement/instrument/detection_system/pixel_size",
    "measurement/instrument/detector/actual_pixel_size_x",
)


def read_data_exchange(path: Path) -> StoredScan:
    """The scan in the file; `data_white`, `data_dark` and the pixel size may be absent. Raises `InputError`."""
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path)
    except (OSError, RuntimeError, KeyError) as error:
        reason = str(error)[:200]
        raise InputError(f"{path}: cannot be read as HDF5 (damaged, cut short, or still written?): {reason}") from error


def _read(file: h5py.File, path: Path) -> StoredScan:
    projections = _array(file, "exchange/data", path)
    if projections is None:
        found = ", ".join(sorted(file)) or "nothing"
        raise InputError(f"{path}: expected the dataset /exchange/data (Data Exchange); the file's root holds {found}")
    angles = _angles(file, path)
    flats = _array(file, "exchange/data_white", path)
    return StoredScan(
        projections=projections,
        angles=angles,
        flats=flats,
        darks=_array(file, "exchange/data_dark", path),
        measurement="line_integral" if flats is None else "transmission",
        pixel_size_nm=_pixel_size_nm(file),
        source=f"Data Exchange file {path}",
    )


def _array(file: h5py.File, name: str, path: Path) -> NDArray[Any] | None:
    """The dataset as an array; None where there is none or an empty one."""
    if name not in file:
        return None
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{path}: expected a dataset at /{name}, found a group")
    array: NDArray[Any] = dataset[()]
    return array if isinstance(array, np.ndarray) and array.size else None


def _angles(file: h5py.File, path: Path) -> NDArray[np.float64]:
    """(angle,) degrees."""
    theta = _array(file, "exchange/theta", path)
    if theta is None:
        raise InputError(f"{path}: expected the angles in the dataset /exchange/theta, which is not there or empty")
    if theta.dtype.kind not in "iuf":
        raise InputError(f"{path}: expected numbers in /exchange/theta, got {theta.dtype}")
    units = _text(file["exchange/theta"].attrs.get("units", "degrees")).strip().lower()
    if units.startswith("rad"):
        return np.rad2deg(theta.astype(np.float64)).ravel()
    if not units.startswith("deg") and units not in ("", "°"):
        raise InputError(f"{path}: expected /exchange/theta in degrees or radians, got the units {units!r}")
    return theta.astype(np.float64).ravel()


def _pixel_size_nm(file: h5py.File) -> float | None:
    """The first pixel size that has a unit of length, in nanometres."""
    for name in _PIXEL_SIZES:
        dataset = file.get(name)
        if isinstance(dataset, h5py.Dataset) and dataset.size == 1 and dataset.dtype.kind in "iuf":
            scale = _IN_NM.get(_text(dataset.attrs.get("units", "")).strip())
            value = float(np.ravel(dataset[()])[0])
            if scale is not None and np.isfinite(value) and value > 0:
                return value * scale
    return None


def _text(value: Any) -> str:
    value = np.ravel(value)[0] if np.size(value) else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
