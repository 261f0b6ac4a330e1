"""Part of the detector, and pixels put together: for projections, references and geometry alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.model import ScanGeometry
from pfitre_service.preprocess.parameters import PreprocessParameters


def cropped(images: NDArray[Any], parameters: PreprocessParameters) -> NDArray[Any]:
    """The region of interest.

    Parameters
    ----------
    images
        (..., row, column).
    parameters
        Rows and columns of the region.

    Returns
    -------
    NDArray[Any]
        (..., row, column), a view.

    Raises
    ------
    InputError
        The region reaches outside.
    """
    rows, columns = _limits(images.shape[-2], images.shape[-1], parameters)
    return images[..., slice(*rows), slice(*columns)]


def binned(images: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Means of `count` x `count` pixels; what is left over at the end is not used.

    Parameters
    ----------
    images
        (angle, row, column) float32.
    count
        Pixels that become one, along each axis.

    Returns
    -------
    NDArray[np.float32]
        (angle, row // count, column // count) float32; `images` itself where count is 1.
    """
    if count == 1:
        return images
    angles, rows, columns = images.shape[0], images.shape[1] // count, images.shape[2] // count
    blocks = images[:, : rows * count, : columns * count].reshape(angles, rows, count, columns, count)
    means: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return means


def region_geometry(geometry: ScanGeometry, parameters: PreprocessParameters) -> ScanGeometry:
    """The geometry of the projections that the chain makes: axis and pixel size follow.

    The middle of binned column k lies at column `first + bin * k + (bin - 1) / 2` of the frame. A slice that was as
    wide as the detector stays so, one of another size keeps it in nm. Values stay attenuation per pixel, so binned
    volumes are larger by `bin`.

    Parameters
    ----------
    geometry
        Of the frames.
    parameters
        Region and binning.

    Returns
    -------
    ScanGeometry
        Of the line integrals.

    Raises
    ------
    InputError
        The region reaches outside.
    """
    rows, columns = _limits(geometry.rows, geometry.columns, parameters)
    count = parameters.bin
    width = (columns[1] - columns[0]) // count
    return replace(
        geometry,
        rows=(rows[1] - rows[0]) // count,
        columns=width,
        axis=(geometry.axis - columns[0] - (count - 1) / 2) / count,
        size=width if geometry.size == geometry.columns else max(2, geometry.size // count),
        pixel_size_nm=None if geometry.pixel_size_nm is None else geometry.pixel_size_nm * count,
    )


def _limits(rows: int, columns: int, parameters: PreprocessParameters) -> tuple[tuple[int, int], tuple[int, int]]:
    limits = parameters.rows or (0, rows), parameters.columns or (0, columns)
    inside = limits[0][1] <= rows and limits[1][1] <= columns
    if not inside or any(last - first < parameters.bin for first, last in limits):
        raise InputError(
            f"preprocess.rows and preprocess.columns must lie within frames of {rows} rows and {columns} columns and "
            f"hold at least one binned pixel; got {parameters.rows} and {parameters.columns}, bin {parameters.bin}"
        )
    return limits
