"""The checksum behind the values of a stored chunk: CRC-32C, four bytes, little endian, as zarr's codec `crc32c`."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

CODEC = {"name": "crc32c"}
"""As `zarr.json` names it; the last of an array's codecs."""
CHECKSUM_BYTES = 4


def checksum(values: NDArray[Any]) -> bytes:
    """Of the bytes of an array that lies in one piece (C order)."""
    # An array, not a memoryview: google_crc32c takes none that may be written to.
    return int(google_crc32c.value(values.reshape(-1).view(np.uint8))).to_bytes(CHECKSUM_BYTES, "little")


def is_whole(content: bytes) -> bool:
    """Whether a file of one chunk ends in the checksum of what is before it."""
    if len(content) <= CHECKSUM_BYTES:
        return False
    values = np.frombuffer(content, np.uint8)
    return checksum(values[:-CHECKSUM_BYTES]) == content[-CHECKSUM_BYTES:]
