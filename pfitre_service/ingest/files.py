"""Stored scans from files: Data Exchange HDF5, or TIFF images with a table of angles."""

from __future__ import annotations

from pathlib import Path

from pfitre_service.errors import InputError
from pfitre_service.ingest.stored_scan import StoredScan, checked

_HDF5 = {".h5", ".hdf5", ".hdf", ".nxs"}
_TIFF = {".tif", ".tiff"}
SUPPORTED = "Data Exchange HDF5 (.h5, .hdf5, .hdf, .nxs), a TIFF stack (.tif, .tiff), or a folder of TIFF images"


def read_scan(
    path: Path | str,
    *,
    angles: Path | str | None = None,
    flats: Path | str | None = None,
    darks: Path | str | None = None,
) -> StoredScan:
    """Read the scan at `path`; raises `InputError` with what was expected and what to do.

    `angles`, `flats` and `darks` go with TIFF: a CSV table of degrees (by default the file `path` with the suffix
    .csv), and TIFF stacks or folders of references.
    """
    from pfitre_service.ingest.data_exchange import read_data_exchange  # h5py and tifffile load when they are needed
    from pfitre_service.ingest.tiff_stack import read_tiff_scan

    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    beside = [Path(given).expanduser() if given is not None else None for given in (angles, flats, darks)]
    if path.is_dir() or path.suffix.lower() in _TIFF:
        return checked(read_tiff_scan(path, *beside))
    if path.suffix.lower() not in _HDF5:
        raise InputError(f"{path}: a scan must be {SUPPORTED}; got a file {path.suffix or 'without suffix'}")
    if any(given is not None for given in beside):
        raise InputError(f"{path}: a Data Exchange file holds its own angles, flats and darks; leave the options out")
    return checked(read_data_exchange(path))
