"""NXtomo: the NeXus application definition of raw tomography, as Diamond, ESRF and others write it.

https://manual.nexusformat.org/classes/applications/NXtomo.html: one stack of frames, `image_key` (0 projection, 1 flat,
2 dark, 3 invalid) and `rotation_angle`, one of each a frame. Parts are found by their NeXus class, not by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.hdf5_values import attribute, dataset_at, degrees, frames, length_nm, text, with_file
from pfitre_service.ingest.scan_files.stored_scan import StoredScan

_PROJECTION, _FLAT, _DARK = 0, 1, 2


def read_nxtomo(path: Path) -> StoredScan:
    """The scan of a file's NXtomo entry, each kind of frame read once into its own array.

    Parameters
    ----------
    path
        HDF5 file.

    Returns
    -------
    StoredScan
        The whole scan.

    Raises
    ------
    InputError
        The file cannot be read, or holds something else.
    """
    return with_file(path, lambda file: _read(chosen_entry(file, path), path))


def references_in(entry: h5py.Group, path: Path, role: str) -> NDArray[Any] | None:
    """The flats or darks of an entry.

    Parameters
    ----------
    entry
        NXtomo entry of an open file.
    path
        Of the file, for messages.
    role
        flat or dark.

    Returns
    -------
    NDArray[Any] | None
        (frame, row, column); None where it has none.
    """
    holder, stack = _detector(entry, path)
    keys = _image_keys(holder, path)
    chosen = np.flatnonzero(keys == (_FLAT if role == "flat" else _DARK))
    return frames(stack, chosen) if len(chosen) else None


def chosen_entry(file: h5py.File, path: Path) -> h5py.Group:
    """The only NXtomo entry, or the one that the file's attributes `default` lead to.

    Parameters
    ----------
    file
        Open for reading.
    path
        Of the file, for messages.

    Returns
    -------
    h5py.Group
        The entry.

    Raises
    ------
    InputError
        There is none, or no way to choose.
    """
    entries = [*nxtomo_entries(file)]
    if len(entries) > 1:
        default = _default(file)
        entries = [entry for entry in entries if entry.name == default or entry.name.startswith(f"{default}/")]
    if len(entries) != 1:
        names = ", ".join(entry.name for entry in nxtomo_entries(file)) or "none"
        raise InputError(f"{path}: expected one NXtomo entry, or several and an attribute `default`; found {names}")
    return entries[0]


def nxtomo_entries(file: h5py.File) -> Iterator[h5py.Group]:
    """Entries, and entries inside entries, whose definition is NXtomo.

    Parameters
    ----------
    file
        Open for reading.

    Yields
    ------
    h5py.Group
        One entry.
    """
    for entry in _of_class(file, "NXentry", "NXsubentry"):
        for group in (entry, *_of_class(entry, "NXsubentry", "NXentry")):
            definition = group.get("definition")
            if isinstance(definition, h5py.Dataset) and text(definition[()]).strip() == "NXtomo":
                yield group


def _default(file: h5py.File) -> str:
    """Name of the entry that the attributes `default` lead to, as far as they lead."""
    name = attribute(file, "default")
    return f"/{name.strip('/')}" if name else ""


def _read(entry: h5py.Group, path: Path) -> StoredScan:
    holder, stack = _detector(entry, path)
    keys = _image_keys(holder, path)
    if stack.ndim != 3 or len(keys) != len(stack):
        raise InputError(
            f"{path}: expected frames (frame, row, column) and an image_key for each in {holder.name}, "
            f"got the shapes {stack.shape} and {keys.shape}"
        )
    chosen = {key: np.flatnonzero(keys == key) for key in (_PROJECTION, _FLAT, _DARK)}
    flats, darks = (frames(stack, chosen[key]) if len(chosen[key]) else None for key in (_FLAT, _DARK))
    return StoredScan(
        projections=frames(stack, chosen[_PROJECTION]),
        angles=_angles(entry, len(stack), path)[chosen[_PROJECTION]],
        flats=flats,
        darks=darks,
        measurement=None if flats is None else "transmission",
        pixel_size_nm=_pixel_size_nm(entry, holder),
        source=f"NXtomo file {path}, entry {entry.name}",
    )


def _detector(entry: h5py.Group, path: Path) -> tuple[h5py.Group, h5py.Dataset]:
    """The group with the frames and their image keys: a detector, or else an NXdata; and the frames."""
    detectors = [one for instrument in _of_class(entry, "NXinstrument") for one in _of_class(instrument, "NXdetector")]
    for group in (*detectors, *_of_class(entry, "NXdata")):
        stack = dataset_at(group, "data")
        if stack is not None and ("image_key" in group or "image_key_control" in group):
            return group, stack
    raise InputError(f"{path}: no NXdetector or NXdata in {entry.name} has the datasets `data` and `image_key`")


def _image_keys(holder: h5py.Group, path: Path) -> NDArray[Any]:
    """(frame,) 0 to 3; the ESRF's `image_key_control` also marks images for alignment, -1, which are no projections."""
    keys = dataset_at(holder, "image_key_control") or dataset_at(holder, "image_key")
    values = None if keys is None or keys.dtype.kind not in "iuf" else np.ravel(keys[()])
    # Diamond's acquisition wrote them as float64.
    if values is None or not (np.isfinite(values) & (values == np.round(values))).all():
        raise InputError(f"{path}: expected whole numbers from 0 to 3 as {holder.name}/image_key")
    return values.astype(np.int64)


def _angles(entry: h5py.Group, count: int, path: Path) -> NDArray[np.float64]:
    """(frame,) degrees."""
    for group in (*_of_class(entry, "NXsample"), *_of_class(entry, "NXdata")):
        angles = dataset_at(group, "rotation_angle")
        if angles is not None and angles.size == count:
            return degrees(angles)
    raise InputError(f"{path}: expected {count} values as rotation_angle in the NXsample or NXdata of {entry.name}")


def _pixel_size_nm(entry: h5py.Group, holder: h5py.Group) -> float | None:
    """At the sample where it is stated (ESRF), else of the detector."""
    groups = (*_of_class(entry, "NXsample"), holder)
    sizes = (length_nm(group, "x_pixel_size") for group in groups)
    return next((size for size in sizes if size is not None), None)


def _of_class(group: h5py.Group, *classes: str) -> Iterator[h5py.Group]:
    """The groups right below of one of these NeXus classes."""
    for name in group:
        child = group.get(name)
        if isinstance(child, h5py.Group) and attribute(child, "NX_class") in classes:
            yield child
