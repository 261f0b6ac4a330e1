"""Single pixels far above their neighbours: cosmic rays, and photons that hit the sensor behind the scintillator."""

from __future__ import annotations

import numpy as np
import scipy  # its `ndimage` is loaded where it is used: it costs each start of a process half a second
from numpy.typing import NDArray

_NEIGHBOURHOOD = 3
_MARGIN = 0.2
"""An outlier is brighter than its neighbourhood by this share at least, however quiet the frame is."""
_SIGMAS_OF_MAD = 1.4826
"""A normal distribution's standard deviation over the median of its absolute deviations."""


def outliers(frame: NDArray[np.float32], sigmas: float) -> NDArray[np.bool_]:
    """Single pixels far above their neighbours.

    The noise of the square root of a Poisson count does not depend on the count (Anscombe 1948), so one number stands
    for the noise of the whole frame: the median absolute deviation from the neighbourhood's median. A frame that is
    mostly zero or without noise has no such number, and nothing is found in it.

    Parameters
    ----------
    frame
        (row, column) float32, finite, counts or transmission.
    sigmas
        Standard deviations of the frame's noise above the median of 3 x 3 pixels; 0 finds none.

    Returns
    -------
    NDArray[np.bool_]
        (row, column), True for outliers.
    """
    none = np.zeros(frame.shape, dtype=np.bool_)
    if sigmas == 0:
        return none
    root = np.sqrt(np.maximum(frame, 0))
    around = scipy.ndimage.median_filter(root, size=_NEIGHBOURHOOD, mode="nearest")
    excess = root - around
    noise = _SIGMAS_OF_MAD * float(np.median(np.abs(excess)))
    if noise == 0:
        return none
    found: NDArray[np.bool_] = (excess > sigmas * noise) & (root > np.sqrt(np.float32(1 + _MARGIN)) * around)
    return found
