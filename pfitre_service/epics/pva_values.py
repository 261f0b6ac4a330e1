"""What travels over PV Access: slices as NTNDArray (as areaDetector sends images), scalars, alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from p4p import Value
from p4p.nt import NTNDArray

from pfitre_service.errors import InputError

Axis = Literal["z", "y", "x"]
AXES: tuple[Axis, ...] = ("z", "y", "x")

_PICTURE = NTNDArray().type
_RECORD_STATUS = 3
_LONGEST_MESSAGE = 200


class Severity(IntEnum):
    """Of an alarm, as EPICS counts them."""

    NONE = 0
    MINOR = 1
    MAJOR = 2
    INVALID = 3


@dataclass(frozen=True, slots=True)
class Alarm:
    """Severity with its reason."""

    severity: Severity = Severity.NONE
    message: str = ""

    def fields(self) -> dict[str, Any]:
        """The structure `alarm` of any normative type."""
        message = self.message
        if len(message) > _LONGEST_MESSAGE:
            message = message[: _LONGEST_MESSAGE - 3] + "..."
        status = _RECORD_STATUS if self.severity else 0
        return {"severity": int(self.severity), "status": status, "message": message}


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One slice of the result."""

    image: NDArray[np.float32]
    """(row, column): (y, x) of a slice along z, (z, x) along y, (z, y) along x."""
    tomogram: str
    axis: Axis
    """That it is cut across."""
    index: int
    revision: int
    """Of the volume."""
    made: float
    """Seconds since the epoch: when the solver made that volume."""
    pixel_size_nm: float | None = None

    def attributes(self) -> dict[str, Any]:
        """What the picture says of itself beside its pixels."""
        known = {
            "tomogram": self.tomogram,
            "axis": self.axis,
            "index": self.index,
            "revision": self.revision,
        }
        return known if self.pixel_size_nm is None else known | {"pixel_size_nm": float(self.pixel_size_nm)}


def picture(shown: Slice, alarm: Alarm, now: float) -> Any:
    """An NTNDArray (p4p.Value): dimension[0] is the column, which runs fastest, dimension[1] the row.

    `uniqueId` is the revision, `dataTimeStamp` when the volume was made, `timeStamp` is `now` (seconds since the
    epoch). There is no attribute ColorMode: a variant of p4p holds no 32-bit integer, ImageJ's viewer complains of any
    other, and without one an array of two dimensions is mono.

    Raises InputError for anything but a two-dimensional float32 image.
    """
    image = shown.image
    if image.ndim != 2 or image.dtype != np.float32:
        raise InputError(f"a slice must be float32 (row, column); got {image.dtype} of shape {image.shape}")
    return _picture(image, shown.revision, shown.attributes(), shown.made, alarm, now)


def no_picture(alarm: Alarm, now: float) -> Any:
    """What stands there before the first slice: one pixel of 0, since viewers refuse an image without any."""
    return _picture(np.zeros((1, 1), np.float32), 0, {}, 0.0, alarm, now)


def picture_alarm(alarm: Alarm, now: float) -> Any:
    """An update that changes the alarm of a picture alone."""
    return Value(_PICTURE, {"alarm": alarm.fields(), "timeStamp": _time_stamp(now)})


def scalar(kind: Any, value: Any, alarm: Alarm, now: float, **more: Any) -> Any:
    """An NTScalar of the p4p.Type `kind`; `more`: further structures of it, such as `control`."""
    return Value(kind, {"value": value, "alarm": alarm.fields(), "timeStamp": _time_stamp(now), **more})


def _picture(
    image: NDArray[np.float32], revision: int, attributes: Mapping[str, Any], made: float, alarm: Alarm, now: float
) -> Any:
    rows, columns = image.shape
    return Value(
        _PICTURE,
        {
            "value": ("floatValue", np.ascontiguousarray(image).reshape(-1)),
            "compressedSize": image.nbytes,
            "uncompressedSize": image.nbytes,
            "uniqueId": revision,
            "dataTimeStamp": _time_stamp(made),
            "timeStamp": _time_stamp(now),
            "alarm": alarm.fields(),
            "dimension": [_dimension(columns), _dimension(rows)],
            "attribute": [{"name": name, "value": value} for name, value in attributes.items()],
        },
    )


def _dimension(size: int) -> dict[str, Any]:
    return {"size": size, "offset": 0, "fullSize": size, "binning": 1, "reverse": False}


def _time_stamp(seconds: float) -> dict[str, int]:
    whole, rest = divmod(seconds, 1.0)
    return {"secondsPastEpoch": int(whole), "nanoseconds": int(rest * 1e9)}
