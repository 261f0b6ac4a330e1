"""Arrays and numbers out of the parts that numpy's pickles name, without running numpy's own rebuilding code.

numpy rebuilds an array from a data type and a state that are both free to lie: a record type with fields outside its
own memory, an array of object pointers. So the pieces are kept as plain values here, checked, and only then made
into an array by `numpy.frombuffer`.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import DocumentError

_TYPE = re.compile(r"[biufc](1|2|4|8|16|32)|[SU]\d{1,6}")
_MAX_AXES = 32
_MAX_SIZE = 1 << 48
"""Of one axis."""
_LAST_SIGN = 0x10FFFF
_MAX_EMPTY = 1000
"""Values of no size, such as empty texts: for numpy each of them takes memory all the same."""


class PickledType:
    """A data type: numbers, truth values, text; no objects, no records, no dates.

    Parameters
    ----------
    code
        numpy's code of the type, such as f8.
    *flags
        Not used.

    Raises
    ------
    DocumentError
        The code is another type's.
    """

    def __init__(self, code: Any, *flags: Any) -> None:
        if not isinstance(code, str) or not _TYPE.fullmatch(code):
            raise DocumentError(f"expected an array of numbers or text, got the type {_word(code)}")
        self._code = code
        self._order = "="

    def set_state(self, state: Any) -> None:
        """Takes the byte order.

        Parameters
        ----------
        state
            `(version, order, subtype, names, fields, size, alignment, flags)`.

        Raises
        ------
        DocumentError
            It is the state of a record or sub-array.
        """
        if not isinstance(state, tuple) or len(state) < 8 or any(part is not None for part in state[2:5]):
            raise DocumentError("expected a plain data type, got a record or sub-array type")
        if state[1] not in ("<", ">", "=", "|"):
            raise DocumentError(f"expected a byte order, got {_word(state[1])}")
        self._order = state[1]

    def read(self, data: Any, shape: Any, order: str) -> NDArray[Any]:
        """The array that some bytes hold.

        Parameters
        ----------
        data
            The values.
        shape
            Of the array.
        order
            F for columns first, else C.

        Returns
        -------
        NDArray[Any]
            Native byte order, read-only; in the memory of `data` if it can be.

        Raises
        ------
        DocumentError
            Type, shape and length do not fit.
        """
        dtype = np.dtype(self._code if self._order == "|" else self._order + self._code)
        if not isinstance(data, bytes | bytearray):
            raise DocumentError(f"expected an array's values as bytes, got {type(data).__name__}")
        if not isinstance(shape, tuple) or len(shape) > _MAX_AXES or not all(map(_is_size, shape)):
            raise DocumentError(f"expected a shape of at most {_MAX_AXES} sizes, got another {type(shape).__name__}")
        values = math.prod(shape)
        if values * dtype.itemsize != len(data) or (values > _MAX_EMPTY and not data):
            raise DocumentError(f"an array of {shape} {dtype} does not fit its {len(data)} bytes")
        check_signs(data, dtype)
        if 0 in shape or not dtype.itemsize:
            array = np.zeros(shape, dtype)
        else:
            laid_out = np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")
            array = laid_out.astype(dtype.newbyteorder("="), copy=False)
        array.flags.writeable = False
        return array


class PickledArray:
    """An array that is filled in by its state, later in the pickle.

    Parameters
    ----------
    *blank
        Not used.
    """

    def __init__(self, *blank: Any) -> None:
        self.array: NDArray[Any] = np.zeros(0)

    def set_state(self, state: Any) -> None:
        """Reads the array.

        Parameters
        ----------
        state
            `(version, shape, type, column order, bytes)`.

        Raises
        ------
        DocumentError
            It is no such state.
        """
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], PickledType):
            raise DocumentError("expected an array's state of five parts")
        _, shape, dtype, by_columns, data = state
        self.array = dtype.read(data, shape, "F" if by_columns else "C")


def from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> NDArray[Any]:
    """An array of pickle protocol 5.

    Parameters
    ----------
    data
        The values.
    dtype
        A `PickledType`.
    shape
        Of the array.
    order
        C, F or K.
    axes
        Order of the axes, for K.

    Returns
    -------
    NDArray[Any]
        Read-only.

    Raises
    ------
    DocumentError
        The parts are no array's.
    """
    if not isinstance(dtype, PickledType) or not isinstance(order, str):
        raise DocumentError("expected an array as bytes, type, shape and order")
    if order == "K" and isinstance(axes, tuple) and all(type(axis) is int for axis in axes):
        return dtype.read(data, shape, "C").transpose(axes)
    return dtype.read(data, shape, order)


def scalar(dtype: Any, data: Any) -> Any:
    """A numpy number as a Python number.

    Parameters
    ----------
    dtype
        A `PickledType`.
    data
        Bytes of one value.

    Returns
    -------
    Any
        Number or text.

    Raises
    ------
    DocumentError
        The parts are no number's.
    """
    if not isinstance(dtype, PickledType):
        raise DocumentError("expected a number as type and bytes")
    value = dtype.read(data, (), "C").item()
    return float(value) if isinstance(value, np.floating) else value


def check_signs(data: bytes | bytearray, dtype: np.dtype[Any]) -> None:
    """Refuses an array of texts with a sign that Unicode does not have: Python's own functions fail on such a text,
    each in its own way.

    Parameters
    ----------
    data
        The values.
    dtype
        Of the values.

    Raises
    ------
    DocumentError
        There is such a sign.
    """
    if dtype.kind == "U" and data and np.frombuffer(data, f"{dtype.byteorder}u4").max() > _LAST_SIGN:
        raise DocumentError("expected texts, got an array with signs that Unicode does not have")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_SIZE


def _word(value: Any) -> str:
    """A text in quotes, or the type of what is none: writing out a hostile value may take for ever."""
    return repr(value[:60]) if isinstance(value, str) else type(value).__name__
