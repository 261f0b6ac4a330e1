"""Numbers that stand for "not measured": masked, dead and saturated pixels as detectors write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT_MASK = float(2**32 - 1)
"""Of photon counters whose images were turned into floats; float32 rounds it to 2**32."""
_LOWEST_MASK = -2
"""Photon counters write -1 between modules and -2 for bad pixels."""
_FEWEST_BITS = 10
"""A detector's full scale is 2**10 - 1 at least: below, a value may well be reached without being clipped."""

_LOOKED_AT = 16_384
"""Pixels of a large frame, evenly chosen."""
_MASKED = 0.12
"""Of the pixels may lie between a detector's modules, and have the type's largest value."""


def not_measured(images: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels without a value. Floats: not finite, or 2**32 - 1. Integers of 16 bits and more: the type's largest value;
    signed ones: its smallest too, and -1 and -2 in a frame that has nothing below (a frame that has is noise around
    zero). Each frame by itself.

    Parameters
    ----------
    images
        (angle, row, column) of any real dtype.

    Returns
    -------
    NDArray[np.bool_]
        (angle, row, column), True for pixels without a value.
    """
    if images.dtype.kind == "f":
        with np.errstate(over="ignore"):  # float16 ends far below: no value of it is the mask
            mask = images.dtype.type(_FLOAT_MASK)
        return ~np.isfinite(images) | (images == mask)
    if images.dtype.kind not in "iu" or images.dtype.itemsize == 1:
        return np.zeros(images.shape, np.bool_)
    limits = np.iinfo(images.dtype)
    lost: NDArray[np.bool_] = images == limits.max
    if images.dtype.kind == "i":
        lowest = images.min(axis=(1, 2), keepdims=True, where=images != limits.min, initial=limits.max)
        lost |= (images == limits.min) | ((images < 0) & (lowest >= _LOWEST_MASK))
    return lost


def full_scale_share(frame: NDArray[Any], known: NDArray[np.bool_] | None = None) -> float:
    """How many pixels of a frame sit at the full scale of a detector, 2**bits - 1; of large frames, among some of them.

    Parameters
    ----------
    frame
        (row, column) of any real dtype.
    known
        (row, column), True for the pixels that are looked at; None for all.

    Returns
    -------
    float
        Share of the pixels, 0 to 1; 0 for floats.
    """
    if frame.dtype.kind not in "iu" or not frame.size:
        return 0.0
    step = max(1, int((frame.size / _LOOKED_AT) ** 0.5))
    frame = frame[::step, ::step]
    seen = frame if known is None else frame[known[::step, ::step]]
    if not seen.size:
        return 0.0
    largest = int(seen.max())
    if largest.bit_count() != largest.bit_length() or largest.bit_length() < _FEWEST_BITS:
        return 0.0
    share = float(np.count_nonzero(seen == largest) / seen.size)
    return share if largest < np.iinfo(frame.dtype).max or share > _MASKED else 0.0
