"""Bad pixels replaced by what their good neighbours say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def repair_image(image: NDArray[np.float32], bad: NDArray[np.bool_]) -> None:
    """Overwrites the bad pixels of one image in place.

    A bad pixel is interpolated linearly between the nearest good pixels of its row (at the row's ends: the nearest
    one), so that no slice borrows from another. Only a row without any good pixel takes the rows above and below. An
    image without any good pixel becomes zero.

    Parameters
    ----------
    image
        (row, column) float32, changed in place.
    bad
        (row, column), True for the pixels to be overwritten.
    """
    lost_rows = bad.all(axis=1)
    if lost_rows.all():
        image[...] = 0
        return
    partly = bad.any(axis=1) & ~lost_rows
    if partly.any():
        rows = image[partly]
        _interpolate_along_rows(rows, bad[partly])
        image[partly] = rows
    if lost_rows.any():
        _interpolate_along_rows(image.T, np.broadcast_to(lost_rows, image.T.shape))


def _interpolate_along_rows(rows: NDArray[np.float32], bad: NDArray[np.bool_]) -> None:
    """In place; every row of `rows` (n, length) must hold a good value."""
    length = rows.shape[1]
    position = np.arange(length)
    before = np.maximum.accumulate(np.where(bad, -1, position), axis=1)
    after = np.minimum.accumulate(np.where(bad, length, position)[:, ::-1], axis=1)[:, ::-1]
    row, column = np.nonzero(bad)
    left, right = before[row, column], after[row, column]
    left, right = np.where(left < 0, right, left), np.where(right >= length, left, right)
    share = ((column - left) / np.maximum(right - left, 1)).astype(np.float32)
    rows[row, column] = (1 - share) * rows[row, left] + share * rows[row, right]
