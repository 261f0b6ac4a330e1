"""Data Exchange: the HDF5 layout of tomography at the APS, `/exchange/data` and its companions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.hdf5_values import dataset_at, degrees, frames, length_nm, with_file
from pfitre_service.ingest.stored_scan import StoredScan
from pfitre_service.ingest.tiff_stack import read_angles

_PIXEL_SIZES = (
    "measurement/instrument/detector/pixel_size",
    "measurement/instrument/detection_system/pixel_size",
    "measurement/instrument/detector/actual_pixel_size_x",
)


def read_data_exchange(path: Path, angles: Path | None = None) -> StoredScan:
    """The scan in the file; `data_white`, `data_dark` and the pixel size may be absent. Raises `InputError`.

    angles: CSV table of degrees for a file without `theta`, and only for one.
    """
    return with_file(path, lambda file: _read(file, path, angles))


def _read(file: h5py.File, path: Path, angles: Path | None) -> StoredScan:
    projections = _stack(file, "exchange/data")
    if projections is None:
        found = ", ".join(sorted(file)) or "nothing"
        raise InputError(
            f"{path}: expected the dataset /exchange/data (Data Exchange) or an entry with the definition NXtomo; "
            f"the file's root holds {found}"
        )
    theta = dataset_at(file, "exchange/theta")
    if theta is None and angles is None:
        raise InputError(
            f"{path}: expected the angles in the dataset /exchange/theta, which is not there or empty; "
            "`pfitre reconstruct` takes a CSV of degrees with --angles"
        )
    if theta is not None and angles is not None:
        raise InputError(f"{path}: the file holds its angles, in /exchange/theta; leave --angles out")
    flats = _stack(file, "exchange/data_white")
    return StoredScan(
        projections=projections,
        angles=read_angles(angles) if angles is not None else degrees(theta),
        flats=flats,
        darks=_stack(file, "exchange/data_dark"),
        measurement="line_integral" if flats is None else "transmission",
        pixel_size_nm=next((size for name in _PIXEL_SIZES if (size := length_nm(file, name)) is not None), None),
        source=f"Data Exchange file {path}",
    )


def _stack(file: h5py.File, name: str) -> NDArray[Any] | None:
    dataset = dataset_at(file, name)
    return None if dataset is None else frames(dataset)
