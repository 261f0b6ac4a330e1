"""One record of the spool: a message as it was heard, with its number, and checksums over head and body.

    magic | crc of the rest of the head | length of the body, its crc | number | time | parts, length of the source
    body: name of the source, then the message

The head has a checksum of its own, so that a damaged length is never believed: it is what leads to the next record.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c

_MAGIC = b"pfS1"
_CHECKS = struct.Struct("<4sI")
_FIELDS = struct.Struct("<IIQdHH")
HEAD_BYTES = _CHECKS.size + _FIELDS.size
_BEGINNING = 256


@dataclass(frozen=True, slots=True)
class Record:
    """One message."""

    number: int
    """Records are numbered from 0, without gaps, for as long as the spool exists."""
    time: float
    """When it was heard, seconds since the epoch."""
    source: str
    """What heard it."""
    parts: int
    """Of the message on the wire; documents have one."""
    message: bytes
    """All parts, one after the other."""
    end: int
    """Offset of the byte behind it in its segment."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no whole record."""

    end: int
    """Offset at which a record may begin again."""


def pack(number: int, time: float, source: bytes, parts: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Head with source, and message, to be written one after the other. `source` and message: 4,000 MiB at most."""
    message = parts[0] if len(parts) == 1 else b"".join(parts)
    crc = google_crc32c.extend(google_crc32c.value(source), message)
    fields = _FIELDS.pack(len(source) + len(message), crc, number, time, min(len(parts), 0xFFFF), len(source))
    return _CHECKS.pack(_MAGIC, google_crc32c.value(fields)) + fields + source, message


def read(file: int, offset: int, holding: bytes = b"") -> Record | Damage | None:
    """What begins at `offset`.

    Parameters
    ----------
    file
        Descriptor of a segment, which may be growing.
    offset
        Where a record begins or, in damaged segments, should.
    holding
        A message that does not have this near its beginning is passed over: it comes without its bytes, unchecked.

    Returns
    -------
    Record | Damage | None
        None where the segment ends before the record does: more may come.
    """
    head = os.pread(file, HEAD_BYTES, offset)
    fields = _fields(head, 0)
    if fields is None:
        return _damage(file, offset) if len(head) == HEAD_BYTES else None
    length, crc, number, time, parts, source_length = fields
    start = offset + HEAD_BYTES
    end = start + length
    if holding and holding not in os.pread(file, min(length, source_length + _BEGINNING), start):
        return Record(number, time, "", parts, b"", end) if end <= os.fstat(file).st_size else None
    body = os.pread(file, length, start)
    if len(body) < length:
        return None
    if google_crc32c.value(body) != crc:
        return Damage(end)
    return Record(number, time, body[:source_length].decode("utf-8", "replace"), parts, body[source_length:], end)


def _damage(file: int, offset: int) -> Damage | None:
    """Up to the next head; None where there is none yet."""
    rest = os.pread(file, os.fstat(file).st_size - offset, offset)
    place = rest.find(_MAGIC, 1)
    while place >= 0 and _fields(rest, place) is None:
        place = rest.find(_MAGIC, place + 1)
    return Damage(offset + place) if place >= 0 else None


def _fields(data: bytes, place: int) -> tuple[int, int, int, float, int, int] | None:
    """Length and checksum of the body, number, time, parts, length of the source; None where no head stands."""
    if len(data) - place < HEAD_BYTES:
        return None
    magic, crc = _CHECKS.unpack_from(data, place)
    rest = data[place + _CHECKS.size : place + HEAD_BYTES]
    if magic != _MAGIC or google_crc32c.value(rest) != crc:
        return None
    return _FIELDS.unpack(rest)
