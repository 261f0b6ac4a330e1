"""Documents as bluesky-kafka sends them, read without trusting the sender.

A message is msgpack of [name, document], with arrays as `msgpack_numpy` packs them: a map with the bytes `nd`, `type`,
`shape`, `data` as keys. That library unpickles arrays of objects, and once imported it replaces msgpack's functions by
its own; so msgpack's extension module is used directly here, and arrays of plain numbers or text alone are understood.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.decoding.decoded import DOCUMENT_NAMES
from pfitre_service.ingest.decoding.pickle_decoder import Decoded, UnknownNameError
from pfitre_service.ingest.decoding.pickled_arrays import check_signs
from pfitre_service.ingest.document_values import quoted

_NUMBERS = "biufSU"
_MAX_VALUES = 300_000
"""Of one message, as in those that come by 0MQ."""
_MAX_TYPE = 16
"""Characters of a type such as <u2; longer ones are records."""


def decode_packed(message: bytes, *, max_bytes: int) -> Decoded:
    """The document in a message.

    Parameters
    ----------
    message
        As bluesky-kafka sends it.
    max_bytes
        Longer messages are refused.

    Returns
    -------
    Decoded
        Name and document.

    Raises
    ------
    DocumentError
        The message is no document.
    UnknownNameError
        Bluesky does not know the document's name.
    """
    if len(message) > max_bytes:
        raise DocumentError(f"a message of {len(message):,} bytes is larger than the {max_bytes:,} that are allowed")
    try:
        value = _unpacked(message)
    except DocumentError:
        raise
    except Exception as error:
        # The edge to the network: a hostile message may raise anything. Counted and told of by the caller.
        said = f"{type(error).__name__}: {error!s:.200}"
        raise DocumentError(f"a message of {len(message):,} bytes cannot be read as msgpack: {said}") from error
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], dict):
        raise DocumentError(f"expected [name, document], got {type(value).__name__} {quoted(value)}")
    name, document = value
    if not isinstance(name, str) or name not in DOCUMENT_NAMES:
        raise UnknownNameError(f"unknown document name {quoted(name)}")
    return Decoded(name, document, frozenset())


def _unpacked(message: bytes) -> Any:
    """Lengths that the message claims are held against its own length by msgpack; nesting ends at its stack. Keys are
    text or bytes, whose hashes cannot be foreseen."""
    from msgpack._cmsgpack import unpackb

    left = _MAX_VALUES

    def counted(items: Any) -> Any:
        nonlocal left
        left -= len(items)
        if left < 0:
            raise DocumentError(f"it has more than {_MAX_VALUES:,} values")
        return items

    return unpackb(
        message,
        raw=False,
        strict_map_key=True,
        max_array_len=_MAX_VALUES,
        max_map_len=_MAX_VALUES,
        list_hook=counted,
        object_hook=lambda table: _plain(counted(table)),
    )


def _plain(table: dict[Any, Any]) -> Any:
    """A map, or the array, number or complex number that it stands for."""
    if b"nd" in table:
        return _array(table) if table[b"nd"] is True else _array(table | {b"shape": ()}).item()
    if b"complex" in table:
        return str(table.get(b"data"))[:200]
    return table


def _array(table: dict[Any, Any]) -> np.ndarray[Any, Any]:
    kind, shape, data = table.get(b"type"), table.get(b"shape"), table.get(b"data")
    if table.get(b"kind") not in (None, b"") or not isinstance(kind, str) or len(kind) > _MAX_TYPE:
        raise DocumentError("an array of objects or records is not read; images are numbers")
    dtype = np.dtype(kind)
    if dtype.kind not in _NUMBERS or not isinstance(data, bytes) or not isinstance(shape, list | tuple):
        raise DocumentError(f"expected an array of numbers with its bytes, got the type {quoted(kind)}")
    if not all(isinstance(size, int) and size >= 0 for size in shape) or len(shape) > 32:
        raise DocumentError(f"expected the shape of an array, got {quoted(shape)}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise DocumentError(f"an array of {dtype} with the shape {quoted(shape)} cannot have {len(data)} bytes")
    check_signs(data, dtype)
    return np.frombuffer(data, dtype).reshape(shape)
