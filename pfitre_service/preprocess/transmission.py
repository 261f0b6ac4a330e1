"""Counts to transmission: dark field, flat field, and the intensity of each frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.preprocess.references import References

_EDGE_SHARE = 0.05


def checked(images: NDArray[Any], references: References) -> NDArray[Any]:
    """The images as an array.

    Parameters
    ----------
    images
        Anything that becomes an array.
    references
        Flats and darks of the same region.

    Returns
    -------
    NDArray[Any]
        (angle, row, column) of any real dtype.

    Raises
    ------
    InputError
        They are not real numbers in three dimensions, or do not fit the references.
    """
    images = np.asarray(images)
    if images.ndim != 3 or images.dtype.kind not in "biuf":
        raise InputError(
            f"projections must be real numbers of shape (angles, rows, columns); got {images.dtype} of shape "
            f"{images.shape}"
        )
    if references.shape is not None and references.shape != images.shape[1:]:
        raise InputError(
            f"projections of (rows, columns) {images.shape[1:]} do not fit flats and darks of {references.shape}: "
            "take references with the same region of interest and binning"
        )
    return images


def divide_by_beam(values: NDArray[np.float32], references: References, bad: NDArray[np.bool_]) -> None:
    """From counts to transmission, in place: (I - D) / (F - D). Without flats the intensity of each frame is taken from
    its outermost columns. Bad pixels hold any number afterwards.

    Parameters
    ----------
    values
        (angle, row, column) float32 counts, changed in place.
    references
        Flat and dark field of the same region.
    bad
        (angle, row, column), True for pixels not to be looked at.
    """
    dark = np.float32(0) if references.dark is None else np.nan_to_num(references.dark, nan=0.0)
    values -= dark
    with np.errstate(over="ignore"):  # absurdly large counts become infinite and are repaired as such
        if references.flat is None or references.valid is None:
            air = [_brighter_edge(frame, lost) for frame, lost in zip(values, bad, strict=True)]
            values /= np.array(air, np.float32).reshape(-1, 1, 1)
        else:
            values /= np.where(references.valid, references.flat - dark, np.float32(1))


def divide_by_air(values: NDArray[np.float32], bad: NDArray[np.bool_], columns: int) -> NDArray[np.float32]:
    """Divides each frame, in place, by the median of its outermost columns at either edge, which see air.

    Parameters
    ----------
    values
        (angle, row, column) float32 transmission, changed in place.
    bad
        (angle, row, column), True for pixels not to be looked at.
    columns
        Number of columns at either edge; 0 divides by nothing.

    Returns
    -------
    NDArray[np.float32]
        (angle,) float32, the intensities; 1 where nothing gets through there, and for 0 columns.

    Raises
    ------
    InputError
        The frames are narrower than twice `columns`.
    """
    intensities = np.ones(len(values), np.float32)
    if columns == 0:
        return intensities
    if 2 * columns > values.shape[2]:
        raise InputError(f"preprocess.air_columns must leave room for a sample in {values.shape[2]}; got {columns}")
    for index, (frame, lost) in enumerate(zip(values, bad, strict=True)):
        edges = np.r_[:columns, -columns:0]
        seen = frame[:, edges][~lost[:, edges]]
        level = float(np.median(seen)) if seen.size else 0.0
        intensities[index] = level if level > 0 else 1.0
    values /= intensities[:, None, None]
    return intensities


def _brighter_edge(frame: NDArray[np.float32], bad: NDArray[np.bool_]) -> float:
    """Counts without sample, from the edges of one dark-subtracted frame (row, column).

    Infinite where the edges are dark or dead: nothing gets through then, and the frame is judged to have no beam.
    """
    width = max(1, round(_EDGE_SHARE * frame.shape[1]))
    brightest = 0.0
    for edge in (slice(None, width), slice(-width, None)):
        rows = ~bad[:, edge].any(axis=1)
        if rows.any():
            level = np.quantile(np.median(frame[rows, edge], axis=1), 0.75)
            brightest = max(brightest, float(level))
    return brightest if brightest > 0 else float("inf")
