"""Flat fields and dark fields, reduced to what a projection is corrected with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy  # its `ndimage` is loaded where it is used: it costs each start of a process half a second
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.preprocess.not_measured import full_scale_share, not_measured
from pfitre_service.preprocess.outliers import outliers
from pfitre_service.preprocess.parameters import PreprocessParameters
from pfitre_service.preprocess.region import cropped

_NEIGHBOURHOOD = 7
_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Flat and dark field of one detector, and which of its pixels can be believed. Made by `from_frames`."""

    flat: NDArray[np.float32] | None
    """(row, column), counts with the beam on and the sample out; None where no flats were taken."""
    dark: NDArray[np.float32] | None
    """(row, column), counts with the beam off; None where no darks were taken."""
    valid: NDArray[np.bool_] | None
    """(row, column), False for dead pixels; None where there is neither flat nor dark to judge by."""
    stripes: NDArray[np.float32] | None = None
    """(row, column) of the projections as they come out of the chain: what is subtracted from all of them (see
    `StripeSearch`); None for nothing."""
    saturated: float = 0.0
    """Share of the flats' pixels at full scale."""
    spread: float = 1.0
    """Mean of the brightest flat over that of the darkest."""
    flats_lost: int = 0
    """Flats without any value, beside others that have some."""

    @classmethod
    def from_frames(
        cls,
        flats: NDArray[Any] | None = None,
        darks: NDArray[Any] | None = None,
        parameters: PreprocessParameters | None = None,
    ) -> References:
        """Reduces stacks of flats and darks.

        Each stack becomes its median over n (the mean where n is 1 or 2), values that are not finite left out, so that
        one bad frame or a cosmic ray leaves no trace. A pixel is dead where flat or dark is never finite, where flat -
        dark is not positive, where it is far below its neighbourhood or the typical pixel, or an outlier.

        Parameters
        ----------
        flats
            (n, row, column) of any real dtype, counts with the beam on and the sample out; None or n = 0 for none.
        darks
            (n, row, column) of any real dtype, counts with the beam off; None or n = 0 for none.
        parameters
            Limits for dead pixels and outliers; the defaults for None.

        Returns
        -------
        References
            Flat and dark field, without a profile of stripes.

        Raises
        ------
        InputError
            A stack is not three-dimensional and real, or the two differ in rows or columns.
        """
        flat = _reduce(flats, "flats")
        dark = _reduce(darks, "darks")
        if flat is not None and dark is not None and flat.shape != dark.shape:
            raise InputError(
                f"flats and darks must have the same rows and columns; got flats of {flat.shape} and darks of "
                f"{dark.shape}: were they taken with another region of interest or binning?"
            )
        valid = _valid(flat, dark, parameters or PreprocessParameters())
        return _judged(cls(flat=flat, dark=dark, valid=valid), flats)

    def cropped(self, parameters: PreprocessParameters) -> References:
        """The references of the region of interest; the stripes are of it already.

        Parameters
        ----------
        parameters
            Rows and columns of the region.

        Returns
        -------
        References
            Flat, dark and valid pixels as views.
        """
        flat, dark, valid = (
            None if image is None else cropped(image, parameters) for image in (self.flat, self.dark, self.valid)
        )
        return replace(self, flat=flat, dark=dark, valid=valid)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(rows, columns), or None where there is neither flat nor dark."""
        return None if self.valid is None else self.valid.shape


def _reduce(stack: NDArray[Any] | None, what: str) -> NDArray[np.float32] | None:
    """(n, row, column) of any real dtype to the median over n, (row, column) float32; NaN where nothing is finite."""
    if stack is None:
        return None
    stack = np.asarray(stack)
    if stack.ndim != 3 or stack.dtype.kind not in "biuf":
        raise InputError(
            f"{what} must be real numbers of shape (n, rows, columns); got {stack.dtype} of shape {stack.shape}"
        )
    if len(stack) == 0:
        return None
    reduced, lost = np.empty(stack.shape[1:], np.float32), not_measured(stack)
    # A few rows at a time: sorting needs a copy in float32, and stacks of flats are large.
    for top in range(0, stack.shape[1], _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        reduced[rows] = _median_of_finite(stack[:, rows], lost[:, rows])
    return reduced


def _median_of_finite(stack: NDArray[Any], lost: NDArray[np.bool_]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is left out below
        ordered = stack.astype(np.float32)
    ordered[~np.isfinite(ordered) | lost] = np.nan
    ordered.sort(axis=0)  # NaN goes last
    finite = np.count_nonzero(np.isfinite(ordered), axis=0)
    below = np.take_along_axis(ordered, np.maximum(finite - 1, 0)[None] // 2, axis=0)[0]
    above = np.take_along_axis(ordered, np.minimum(finite // 2, len(ordered) - 1)[None], axis=0)[0]
    middle: NDArray[np.float32] = below + (above - below) / 2
    return np.where(finite > 0, middle, np.float32(np.nan))


def _valid(
    flat: NDArray[np.float32] | None, dark: NDArray[np.float32] | None, parameters: PreprocessParameters
) -> NDArray[np.bool_] | None:
    if flat is None:
        return None if dark is None else np.isfinite(dark)
    beam = flat if dark is None else flat - dark
    alive: NDArray[np.bool_] = np.isfinite(beam) & (beam > 0)
    if not alive.any():
        return alive
    known = np.where(np.isfinite(beam), beam, np.float32(0))
    neighbours = scipy.ndimage.median_filter(known, size=_NEIGHBOURHOOD, mode="nearest")
    alive &= known >= parameters.dead_below_neighbours * neighbours
    alive &= known >= parameters.dead_below_typical * np.median(known[alive])
    return alive & ~outliers(known, parameters.outlier_sigmas)


def _judged(references: References, flats: NDArray[Any] | None) -> References:
    """With what speaks against the flats, (n, row, column) of any real dtype."""
    if flats is None or len(flats) == 0:
        return references
    flats = np.asarray(flats)
    lost = not_measured(flats)
    with np.errstate(over="ignore"):
        means = [
            float(np.mean(flat[~gone], dtype=np.float64))
            for flat, gone in zip(flats, lost, strict=True)
            if not gone.all()
        ]
    lowest = min(means, default=0.0)
    return replace(
        references,
        saturated=float(np.median([full_scale_share(flat) for flat in flats])),
        spread=max(means) / lowest if lowest > 0 else 1.0,
        flats_lost=len(flats) - len(means) if means else 0,
    )
