"""Images and angles out of the values of one event. Pure; raises `FrameError` with the reason to count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.assembly.counts import Refusal
from pfitre_service.ingest.document_values import holds_text


class FrameError(DocumentError):
    """A frame that cannot be used; `reason` is the word it is counted under, `frames` how many it were."""

    def __init__(self, reason: Refusal, message: str, frames: int = 1) -> None:
        super().__init__(message)
        self.reason: Refusal = reason
        self.frames = frames


def as_images(value: Any) -> NDArray[Any]:
    """The images of one event: (frame, row, column), native byte order, real numbers.

    `value` is an array or nested list of (row, column) or (frame, row, column).
    """
    if isinstance(value, str):
        raise FrameError("in a file", f"the image is a reference to a file ({value[:60]!r}), not an array")
    if not isinstance(value, np.ndarray | list | tuple):
        raise FrameError("dtype", f"expected an array as image, got {type(value).__name__}")
    if holds_text(value):
        raise FrameError("dtype", "expected numbers as image, got something else among them")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise FrameError("shape", f"expected rows of equal length as image: {str(error)[:120]}") from error
    array = _real(array)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise FrameError("shape", f"expected (row, column) or (frame, row, column) as image, got {array.shape}")
    return array[np.newaxis] if array.ndim == 2 else array


def as_angles(value: Any, frames: int, degrees_per_unit: float) -> NDArray[np.float64]:
    """The angle of each of `frames` frames in degrees, from one number or one a frame; not finite where it was not."""
    try:
        if isinstance(value, bool | str | bytes | None):
            raise TypeError(f"{type(value).__name__} is no number")
        angles = np.asarray(value, dtype=np.float64).ravel()
    except (ValueError, TypeError, OverflowError) as error:
        raise FrameError("angle", f"expected a number as angle: {str(error)[:120]}", frames) from error
    if angles.size not in (1, frames):
        raise FrameError("angle", f"expected one angle or {frames}, one for each frame, got {angles.size}", frames)
    angles = np.broadcast_to(angles, frames)
    return angles * degrees_per_unit


def _real(array: NDArray[Any]) -> NDArray[Any]:
    """`array` in native byte order; booleans as 0 and 1, extended precision as doubles."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        return array.astype(np.uint8)
    if kind not in "iuf":
        raise FrameError("dtype", f"expected real numbers as image, got {array.dtype}")
    wanted = np.dtype(np.float64) if size > 8 else array.dtype.newbyteorder("=")
    return np.asarray(array).astype(wanted, copy=False)
