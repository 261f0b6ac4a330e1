"""Frozen values that travel between the parts.

Axis order everywhere: volumes (z, y, x), projections (angle, row, column). Angles are degrees here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError

Role = Literal["projection", "flat", "dark"]
Measurement = Literal["transmission", "line_integral"]
"""`transmission`: detector counts that need flats, darks and a logarithm; `line_integral`: used as they are."""

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Finding:
    """A doubt about a scan, held against its values: the same in every way in, and said out loud by each."""

    name: str
    """What it is, for people to look up and for programs to act on, such as `angles-in-radians`; never changes."""
    message: str
    """What was expected, what came, and what to do."""
    fatal: bool = False
    """No right volume can come of this scan: it is refused."""

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


@dataclass(frozen=True, slots=True)
class TomogramKey:
    """Name of one tomogram in the catalogue, `tomograms/{id}`; safe as a URL segment and as a folder name.

    Raises
    ------
    InputError
        The id has another form.
    """

    id: str
    """1 to 100 letters, digits, '.', '_' or '-', beginning with a letter or digit: the first run's uid, with `-element`
    where the scan has several."""

    def __post_init__(self) -> None:
        if not _SAFE_ID.fullmatch(self.id):
            raise InputError(
                f"a tomogram's id must be 1 to 100 letters, digits, '.', '_' or '-' and start with a letter or digit; "
                f"got {self.id[:120]!r}"
            )

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One detector image with what its documents said of it."""

    image: NDArray[Any]
    """(row, column), any real dtype, as the detector gave it."""
    role: Role
    """projection, flat or dark."""
    angle: float
    """Degrees; NaN for flats and darks."""
    seq_num: int
    """The event's sequence number within its stream, from 1."""
    time: float
    """Seconds since the epoch, from the event."""
    run_uid: str
    """Of the run that brought it."""
    stream: str
    """The stream of the event: with run uid, seq_num and part it names the frame, wherever it came from."""
    part: int = 0
    """Which frame of its event it is, from 0."""
    event_uid: str = ""
    """Of the document that brought it: a point that is taken again has the number of the first take and another uid."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """Frames of one role as they lie in the store, rows `first` to `first + len(images)` of its array."""

    role: Role
    """projection, flat or dark."""
    first: int
    """Row of the first frame in the store."""
    images: NDArray[Any]
    """(angle, row, column)."""
    angles: NDArray[np.float64]
    """(angle,) degrees; NaN for flats and darks."""
    damaged: Mapping[int, str] = field(default_factory=dict)
    """Rows whose frames cannot be read any more, with run, seq_num and the reason; their images are zeros."""
    ray_weights: NDArray[np.float32] | None = None
    """(angle, row, column): what each ray counts, zero or positive; None where all count one."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Which projections the solver does not see while the error is measured: every n-th, by their rows in the store."""

    every: int
    """0: none."""

    def among(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(row,) whether each of `rows` is held out.

        Parameters
        ----------
        rows
            (row,) int64, rows of projections in the store.

        Returns
        -------
        NDArray[np.bool_]
            (row,), True for those that are held out.
        """
        return rows % self.every == self.every // 2 if self.every else np.zeros(len(rows), dtype=bool)

    def document(self) -> dict[str, int] | None:
        """For the metadata: rows `first`, `first + every` and so on are held out; None for none."""
        return {"first": self.every // 2, "every": self.every} if self.every else None


@dataclass(frozen=True, slots=True)
class ScanGeometry:
    """Where rays run: parallel beam, one rotation axis along the detector's rows (docs/design.md, "Geometry").

    A projection at angle t holds, in column c, the integral of the slice along
    ``c - axis = (x - (size-1)/2) cos t + (y - (size-1)/2) sin t``.

    Raises
    ------
    InputError
        Less than 1 row, 2 columns or slices of 2 pixels, or an axis far outside the detector.
    """

    rows: int
    """Detector rows, which are the slices."""
    columns: int
    """Detector columns."""
    axis: float
    """Column of the rotation axis, sub-pixel; (columns-1)/2 is the middle."""
    size: int
    """Width and height of a slice in pixels."""
    pixel_size_nm: float | None = None
    """Side of a detector pixel in the sample, nm; None where it is not known."""

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 2 or self.size < 2:
            raise InputError(
                "a tomogram needs at least 1 row, 2 columns and slices of 2 pixels; "
                f"got {self.rows} rows, {self.columns} columns, slices of {self.size}"
            )
        if not -self.columns < self.axis < 2 * self.columns:
            raise InputError(
                f"the rotation axis must lie near the detector's columns 0 to {self.columns - 1}; got {self.axis}"
            )

    @classmethod
    def from_detector(
        cls,
        *,
        rows: int,
        columns: int,
        axis: float | None = None,
        size: int | None = None,
        pixel_size_nm: float | None = None,
    ) -> ScanGeometry:
        """Geometry with the usual defaults: axis in the middle, slices as wide as the detector.

        Parameters
        ----------
        rows, columns
            Size of the detector in pixels.
        axis
            Column of the rotation axis, sub-pixel; None for the middle, (columns-1)/2.
        size
            Width and height of a slice in pixels; None for as many as columns.
        pixel_size_nm
            Side of a detector pixel in the sample, nm.

        Returns
        -------
        ScanGeometry
            The geometry, checked.
        """
        return cls(
            rows=rows,
            columns=columns,
            axis=(columns - 1) / 2 if axis is None else float(axis),
            size=columns if size is None else int(size),
            pixel_size_nm=pixel_size_nm,
        )

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return (self.rows, self.size, self.size)


Phase = Literal["preview", "iterating", "converging", "refit", "final"]
"""Where a reconstruction stands: first picture; steps during the scan; steps after it; the held-out angles
given to the solver as well; done."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One row of `progress`: the state of a reconstruction after one step. NaN where nothing was measured."""

    revision: int
    """Grows by one a step; the volume in the store carries the revision it belongs to."""
    phase: Phase
    """See `Phase`."""
    time: float
    """Seconds since the epoch."""
    angles_stored: int
    """Projections in the store."""
    angles_used: int
    """Angles in the solver's or the held-out accumulators."""
    iterations: int
    """ADMM iterations so far, over the whole life of the tomogram."""
    residual: float
    """||A x - y|| / ||y|| over the solver's angles, of the result."""
    heldout_error: float
    """||A x - y|| / ||y|| over the held-out angles, of the result."""
    heldout_error_physics: float
    """The same of the physics-only volume."""
    change: float
    """||x - x_previous|| / ||x|| of the last step."""
    prior_gap: float
    """||z - x|| / ||x||: how far prior and data disagree."""
    seconds: float
    """Compute seconds spent on this tomogram so far."""
