"""A scan as it was read from files, and whether its parts fit each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.model import Measurement


@dataclass(frozen=True, slots=True, eq=False)
class StoredScan:
    """A whole scan in memory."""

    projections: NDArray[Any]
    """(angle, row, column), as stored."""
    angles: NDArray[np.float64]
    """(angle,) degrees."""
    flats: NDArray[Any] | None
    """(frame, row, column)."""
    darks: NDArray[Any] | None
    """(frame, row, column)."""
    measurement: Measurement | None
    """None where the files do not say what the images hold."""
    pixel_size_nm: float | None
    """Side of a detector pixel, nm; None where the files do not say."""
    source: str
    """Where it came from, in words."""
    notes: tuple[str, ...] = ()
    """What a person should know of how it was read: the order taken, what was left out, what stands in for what."""


def said_to_hold(scan: StoredScan, measurement: Measurement | None) -> StoredScan:
    """The scan, of which a person says what its images hold. Flats and darks of line integrals are left out, with a
    note.

    Parameters
    ----------
    scan
        As it was read.
    measurement
        None where nobody says it.

    Returns
    -------
    StoredScan
        `scan` itself where nobody does.
    """
    if measurement is None:
        return scan
    if measurement == "line_integral" and scan.flats is not None:
        note = "flat and dark fields are not used: the images are said to be line integrals"
        return replace(scan, measurement=measurement, flats=None, darks=None, notes=(*scan.notes, note))
    return replace(scan, measurement=measurement)


def checked(scan: StoredScan) -> StoredScan:
    """The scan, if its parts fit each other.

    Parameters
    ----------
    scan
        As it was read.

    Returns
    -------
    StoredScan
        `scan` itself.

    Raises
    ------
    InputError
        Shapes, types or numbers do not fit.
    """
    where, count = scan.source, len(scan.projections)
    if scan.projections.ndim != 3 or 0 in scan.projections.shape:
        raise InputError(f"{where}: expected projections (angle, row, column), got the shape {scan.projections.shape}")
    for name, stack in (("projections", scan.projections), ("flats", scan.flats), ("darks", scan.darks)):
        if stack is not None and (stack.ndim != 3 or stack.shape[1:] != scan.projections.shape[1:]):
            raise InputError(f"{where}: expected {name} like {scan.projections.shape[1:]}, got the shape {stack.shape}")
        if stack is not None and stack.dtype.kind not in "iuf":
            raise InputError(f"{where}: expected real numbers as {name}, got {stack.dtype}")
    if scan.angles.shape != (count,):
        raise InputError(f"{where}: {count} projections, but {scan.angles.size} angles; there must be one for each")
    if not np.isfinite(scan.angles).all():
        first = int(np.flatnonzero(~np.isfinite(scan.angles))[0])
        raise InputError(f"{where}: the angle of projection {first} is {scan.angles[first]}, expected a finite number")
    return scan
