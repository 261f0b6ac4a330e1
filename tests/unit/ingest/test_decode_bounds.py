"""One message must not stop ingest: whatever it holds, it is read or refused in bounded time and memory.

The messages are built from the operations of the pickle format itself (pickletools has their meaning).
"""

from __future__ import annotations

import pickle
import struct
import time
import tracemalloc

import msgpack
import numpy as np
import pytest

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.decode import decode
from pfitre_service.ingest.packed import decode_packed

MODULUS = 2**61 - 1
"""Python's hash of a whole number is its remainder by this: multiples of it all meet."""
LIMIT_S = 2.5
"""A second for the operations, and what a busy machine takes beside."""


def event(pickled: bytes) -> bytes:
    return b" event " + pickled


def dumped(document: object) -> bytes:
    return event(pickle.dumps(document, protocol=4))


def table(inner: bytes) -> bytes:
    """The document {"a": inner}."""
    held = pickle.BINUNICODE + b"\1\0\0\0a" + inner
    return event(b"\x80\x04" + pickle.EMPTY_DICT + held + pickle.SETITEM + pickle.STOP)


def whole(value: int) -> bytes:
    data = value.to_bytes(10, "little", signed=True)
    return pickle.LONG1 + bytes([len(data)]) + data


def colliding_integers() -> bytes:
    keys = b"".join(whole(number * MODULUS) + pickle.NONE for number in range(1, 60_001))
    return event(b"\x80\x04" + pickle.EMPTY_DICT + pickle.MARK + keys + pickle.SETITEMS + pickle.STOP)


def colliding_negative_integers() -> bytes:
    keys = b"".join(whole(-number * MODULUS) + pickle.NONE for number in range(1, 60_001))
    return event(b"\x80\x04" + pickle.EMPTY_DICT + pickle.MARK + keys + pickle.SETITEMS + pickle.STOP)


def colliding_in_a_set() -> bytes:
    items = b"".join(whole(number * MODULUS) for number in range(1, 60_001))
    inner = pickle.EMPTY_SET + pickle.MARK + items + pickle.ADDITEMS
    return table(inner)


def colliding_in_a_frozenset() -> bytes:
    items = b"".join(whole(number * MODULUS) for number in range(1, 60_001))
    inner = pickle.MARK + items + pickle.FROZENSET
    return table(inner)


def colliding_floats() -> bytes:
    numbers = (float(2.0 ** (61 * (step % 15)) * (1 + step)) for step in range(60_000))
    keys = b"".join(pickle.BINFLOAT + struct.pack(">d", number) + pickle.NONE for number in numbers)
    return event(b"\x80\x04" + pickle.EMPTY_DICT + pickle.MARK + keys + pickle.SETITEMS + pickle.STOP)


def colliding_places_to_remember() -> bytes:
    puts = b"".join(pickle.PUT + str(number * MODULUS).encode() + b"\n" for number in range(1, 30_001))
    return event(b"\x80\x04" + pickle.EMPTY_DICT + puts + pickle.STOP)


def many_operations() -> bytes:
    return event(b"\x80\x04" + pickle.EMPTY_DICT + (pickle.NONE + pickle.POP) * 5_000_000 + pickle.STOP)


def many_marks() -> bytes:
    return event(b"\x80\x04" + pickle.EMPTY_DICT + pickle.MARK * 10_000_000 + pickle.STOP)


def many_values() -> bytes:
    inner = pickle.EMPTY_LIST + pickle.MARK + pickle.NONE * 900_000 + pickle.APPENDS
    return table(inner)


def a_value_repeated_without_end() -> bytes:
    nested: list[object] = [0]
    for _ in range(90):
        nested = [nested, nested]
    return dumped({"a": nested})


def a_number_of_a_million_digits() -> bytes:
    data = b"\x7f" * 400_000
    number = pickle.LONG4 + struct.pack("<i", len(data)) + data
    return table(number)


def a_key_of_a_million_digits() -> bytes:
    data = b"\x7f" * 400_000
    number = pickle.LONG4 + struct.pack("<i", len(data)) + data
    return event(b"\x80\x04" + pickle.EMPTY_DICT + number + pickle.NONE + pickle.SETITEM + pickle.STOP)


def bytes_made_into_arrays_again_and_again() -> bytes:
    """One run of bytes, of which each array is a copy, since its byte order is another."""
    data = bytes(2 << 20)
    arrays = [np.ndarray((len(data) // 2,), ">u2", data) for _ in range(200)]
    raw = pickle.dumps({"a": arrays}, protocol=4)
    first, *others = (pickle.dumps(array, protocol=4) for array in arrays[:1])
    assert not others
    body = first[11:-1] if first[2:3] == pickle.FRAME else first[2:-1]
    head, tail = body.split(pickle.BINBYTES + struct.pack("<I", len(data)) + data)
    tail = tail.removeprefix(pickle.MEMOIZE)
    remembered = pickle.BINBYTES + struct.pack("<I", len(data)) + data + pickle.LONG_BINPUT + struct.pack("<I", 10_000)
    again = pickle.LONG_BINGET + struct.pack("<I", 10_000)
    items = head + remembered + tail + (head + again + tail) * 199
    assert len(items) < len(raw) / 50
    inner = pickle.EMPTY_LIST + pickle.MARK + items + pickle.APPENDS
    return table(inner)


ATTACKS = [
    colliding_integers,
    colliding_negative_integers,
    colliding_in_a_set,
    colliding_in_a_frozenset,
    colliding_floats,
    colliding_places_to_remember,
    many_operations,
    many_marks,
    many_values,
    a_value_repeated_without_end,
    a_number_of_a_million_digits,
    a_key_of_a_million_digits,
    bytes_made_into_arrays_again_and_again,
]


def outcome(message: bytes) -> str:
    """Why it is refused; empty where it is read."""
    try:
        decode(message, max_bytes=1 << 28)
    except DocumentError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_hostile_message_is_read_or_refused_within_a_bound(attack):
    message = attack()
    tracemalloc.start()
    began = time.perf_counter()
    said = outcome(message)
    took, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(said) < 500
    # tracemalloc makes each allocation several times as slow
    assert took < 4 * LIMIT_S
    assert peak < 3 * len(message) + (64 << 20)


def packed_colliding_keys() -> bytes:
    keys = {number * MODULUS % 2**64: None for number in range(1, 9)}
    many = msgpack.packb(keys)[1:] * 5000
    return b"\x92" + msgpack.packb("event") + b"\x81\xa1a" + b"\xdf" + struct.pack(">I", 40_000) + many


def packed_lists_without_end() -> bytes:
    row = b"\xdd" + struct.pack(">I", 250_000) + b"\xc0" * 250_000
    return b"\x92" + msgpack.packb("event") + b"\x81\xa1a" + b"\xdd" + struct.pack(">I", 100) + row * 100


@pytest.mark.parametrize("attack", [packed_colliding_keys, packed_lists_without_end])
def test_a_hostile_message_of_kafka_is_refused_within_a_bound(attack):
    message = attack()
    began = time.perf_counter()
    with pytest.raises(DocumentError):
        decode_packed(message, max_bytes=1 << 28)
    assert time.perf_counter() - began < LIMIT_S


def test_what_scans_send_is_far_within_the_bounds():
    line = {"data": {"counts": [float(number) for number in range(100_000)]}, "seq_num": 1}
    found = decode(dumped(line), max_bytes=1 << 26)
    assert found is not None
    assert found.document == line
    image = np.arange(2048 * 2048, dtype=np.uint16).reshape(2048, 2048)
    found = decode(dumped({"data": {"image": image}}), max_bytes=1 << 26)
    assert found is not None
    np.testing.assert_array_equal(found.document["data"]["image"], image)


def test_keys_that_are_numbers_become_text_as_before():
    found = decode(dumped({"a": {1: "x", 2.5: "y"}}), max_bytes=1 << 20)
    assert found is not None
    assert found.document == {"a": {"1": "x", "2.5": "y"}}
