"""Stored scans from files: NXtomo or Data Exchange HDF5, or TIFF images with a table of angles.

A scan is held in memory whole, once: HDF5 frames are read straight into the arrays of the result; of a folder of single
images each is read and then stacked, so that twice its size is needed for a moment.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pfitre_service.errors import InputError
from pfitre_service.ingest.scan_files.file_order import Order
from pfitre_service.ingest.scan_files.reference_files import read_references
from pfitre_service.ingest.scan_files.stored_scan import StoredScan, checked

_KIND_OF_SUFFIX: dict[str, Literal["hdf5", "tiff"]] = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".nxs", ".nx"), "hdf5"),
    **dict.fromkeys((".tif", ".tiff"), "tiff"),
}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUPPORTED = "NXtomo or Data Exchange HDF5 (.h5, .nxs, ...), a TIFF stack (.tif, .tiff), or a folder of TIFF images"


def read_scan(
    path: Path | str,
    *,
    angles: Path | str | None = None,
    flats: str | Path | None = None,
    darks: str | Path | None = None,
    order: Order = "auto",
) -> StoredScan:
    """Reads a scan, whose kind is known by its content.

    Parameters
    ----------
    path
        HDF5 file, TIFF file, or folder of TIFF images.
    angles
        Table of degrees, for TIFF (by default the file `path` with the suffix .csv) and for a Data Exchange file
        without angles.
    flats
        FILE or FILE:PATH, see `read_references`; takes the place of those in `path`.
    darks
        FILE or FILE:PATH, likewise.
    order
        Of the images in a folder, see `file_order`.

    Returns
    -------
    StoredScan
        The whole scan, its parts held against each other.

    Raises
    ------
    InputError
        The scan cannot be read; says what was expected and what to do.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    table = None if angles is None else Path(angles).expanduser()
    kind = _kind(path)
    if kind == "tiff":
        from pfitre_service.ingest.scan_files.tiff_stack import (
            read_tiff_scan,  # tifffile and h5py load when they are needed
        )

        scan = read_tiff_scan(path, table, order)
    else:
        if order != "auto":
            raise InputError(f"{path}: --order is for folders of images; an HDF5 file has its order")
        scan = _read_hdf5(path, table)
    return checked(_with_references(_with_references(scan, "flat", flats), "dark", darks))


def _with_references(scan: StoredScan, role: Literal["flat", "dark"], given: str | Path | None) -> StoredScan:
    if given is None:
        return scan
    stack = read_references(str(given), role)
    name = "flats" if role == "flat" else "darks"
    said = f"{role} fields: {len(stack)} of {given}"
    said += ", in place of those in the file" if getattr(scan, name) is not None else ""
    notes = (*scan.notes, said)
    if role == "flat":
        return replace(scan, flats=stack, measurement="transmission", notes=notes)
    return replace(scan, darks=stack, notes=notes)


def _kind(path: Path) -> Literal["hdf5", "tiff"]:
    """By the first bytes; by the name where these say nothing, so that a damaged file is told of as what it was."""
    if path.is_dir():
        return "tiff"
    with path.open("rb") as file:
        begins = file.read(8)
    if begins == _HDF5:
        return "hdf5"
    if begins[:4] in _TIFF:
        return "tiff"
    kind = _KIND_OF_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: a scan must be {SUPPORTED}; got a file {path.suffix or 'without suffix'}")
    return kind


def _read_hdf5(path: Path, angles: Path | None) -> StoredScan:
    from pfitre_service.ingest.hdf5_values import with_file
    from pfitre_service.ingest.scan_files.data_exchange import read_data_exchange
    from pfitre_service.ingest.scan_files.nxtomo import nxtomo_entries, read_nxtomo

    if with_file(path, lambda file: any(True for _ in nxtomo_entries(file))):
        if angles is not None:
            raise InputError(f"{path}: an NXtomo file holds its own angles; leave --angles out")
        return read_nxtomo(path)
    return read_data_exchange(path, angles)
