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
from pfitre_service.ingest.decoding.msgpack_decoder import decode_packed
from pfitre_service.ingest.decoding.pickle_decoder import decode

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]  # which makes everything several times as slow

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


def remembered(value: bytes, place: int) -> bytes:
    return value + pickle.BINPUT + bytes([place]) + pickle.POP


def recalled(place: int) -> bytes:
    return pickle.BINGET + bytes([place])


def text_of(length: int) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", length) + b"x" * length


def flood(setting: bytes, repeated: bytes, times: int) -> bytes:
    return event(b"\x80\x04" + setting + repeated * times + pickle.EMPTY_DICT + pickle.STOP)


def one_long_list_of_arguments_for_many_calls() -> bytes:
    """306 kB that copy 300,000 arguments a thousand times."""
    arguments = remembered(pickle.MARK + pickle.NONE * 300_000 + pickle.TUPLE, 1)
    named = remembered(pickle.GLOBAL + b"some\nClass\n", 2)
    call = recalled(2) + recalled(1) + pickle.REDUCE + pickle.POP
    return flood(arguments + named, call, 1000)


def one_long_state_for_many_types() -> bytes:
    state = remembered(
        pickle.MARK
        + whole(3)
        + text_of(1).replace(b"x", b"<")
        + pickle.NONE * 3
        + whole(-1) * 2
        + pickle.NONE * 300_000
        + pickle.TUPLE,
        1,
    )
    kind = pickle.GLOBAL + b"numpy\ndtype\n" + pickle.BINUNICODE + b"\2\0\0\0u2" + pickle.TUPLE1 + pickle.REDUCE
    return flood(state + remembered(kind, 2), recalled(2) + recalled(1) + pickle.BUILD + pickle.POP, 1000)


def one_long_name_for_many_classes() -> bytes:
    named = recalled(1) + recalled(1) + pickle.STACK_GLOBAL + pickle.POP
    return flood(remembered(text_of(4_000_000), 1), named, 20_000)


def one_long_text_repeated() -> bytes:
    """Whoever writes this list out, in an error message perhaps, writes 20 GB."""
    text = text_of(100_000) + pickle.BINPUT + b"\1"
    return table(pickle.EMPTY_LIST + pickle.MARK + text + recalled(1) * 200_000 + pickle.APPENDS)


def one_image_repeated() -> bytes:
    """Whoever makes one array of this list needs 16 GB."""
    array = pickle.dumps(np.zeros((1024, 1024), np.uint8), protocol=4)
    body = array[11:-1] if array[2:3] == pickle.FRAME else array[2:-1]
    first = body + pickle.LONG_BINPUT + struct.pack("<I", 9000)
    again = pickle.LONG_BINGET + struct.pack("<I", 9000)
    return table(pickle.EMPTY_LIST + pickle.MARK + first + again * 16_000 + pickle.APPENDS)


def array_of_shape(code: bytes, sizes: bytes, data: bytes = b"") -> bytes:
    """An array of pickle protocol 5, as its own words for type, shape and bytes."""
    order = struct.pack("<I", 1) + b"C"
    named = pickle.GLOBAL + b"numpy._core.numeric\n_frombuffer\n" + pickle.MARK
    held = pickle.BINBYTES + struct.pack("<I", len(data)) + data
    kind = pickle.GLOBAL + b"numpy\ndtype\n" + pickle.BINUNICODE + struct.pack("<I", len(code)) + code
    kind += pickle.TUPLE1 + pickle.REDUCE
    shape = pickle.MARK + sizes + pickle.TUPLE
    return table(named + held + kind + shape + pickle.BINUNICODE + order + pickle.TUPLE + pickle.REDUCE)


def a_billion_texts_of_no_length() -> bytes:
    """For numpy, an empty text takes a byte."""
    return array_of_shape(b"S0", whole(10**9))


def sizes_of_a_million_digits() -> bytes:
    data = b"\x7f" * 2_000_000
    return array_of_shape(b"u1", (pickle.LONG4 + struct.pack("<i", len(data)) + data) * 16)


def texts_of_signs_that_are_none() -> bytes:
    return array_of_shape(b"U1", whole(2), b"\xff" * 8)


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
    one_long_list_of_arguments_for_many_calls,
    one_long_state_for_many_types,
    one_long_name_for_many_classes,
    one_long_text_repeated,
    one_image_repeated,
    a_billion_texts_of_no_length,
    sizes_of_a_million_digits,
    texts_of_signs_that_are_none,
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
    began = time.process_time()
    said = outcome(message)
    assert time.process_time() - began < LIMIT_S
    assert len(said) < 500
    tracemalloc.start()
    outcome(message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * len(message) + (64 << 20)


LARGE = {
    "text": text_of(1 << 20),
    "bytes": pickle.BINBYTES + struct.pack("<I", 1 << 20) + bytes(1 << 20),
    "list": pickle.EMPTY_LIST + pickle.MARK + pickle.NONE * 300_000 + pickle.APPENDS,
    "tuple": pickle.MARK + pickle.NONE * 300_000 + pickle.TUPLE,
    "set": pickle.EMPTY_SET + pickle.MARK + pickle.NONE * 300_000 + pickle.ADDITEMS,
    "number": pickle.LONG4 + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20),
    "instance": pickle.GLOBAL + b"some\nClass\n" + text_of(1 << 20) + pickle.TUPLE1 + pickle.REDUCE,
}
USES = {
    "copied": pickle.DUP + pickle.POP,
    "in a tuple": pickle.DUP + pickle.TUPLE2 + pickle.POP + recalled(1),
    "in a list": pickle.EMPTY_LIST + recalled(1) + pickle.APPEND + pickle.POP,
    "in itself": recalled(1) + pickle.APPEND,
    "as items": pickle.EMPTY_LIST + pickle.MARK + recalled(1) + pickle.APPENDS + pickle.POP,
    "as a key": pickle.EMPTY_DICT + recalled(1) + pickle.NONE + pickle.SETITEM + pickle.POP,
    "as a frozen set": pickle.MARK + recalled(1) + pickle.FROZENSET + pickle.POP,
    "as a set": pickle.GLOBAL + b"builtins\nset\n" + recalled(1) + pickle.TUPLE1 + pickle.REDUCE + pickle.POP,
    "as arguments": pickle.GLOBAL + b"some\nClass\n" + recalled(1) + pickle.REDUCE + pickle.POP,
    "as one argument": pickle.GLOBAL + b"some\nClass\n" + recalled(1) + pickle.TUPLE1 + pickle.REDUCE + pickle.POP,
    "as a state": recalled(1) + pickle.BUILD,
    "as a class": recalled(1) + recalled(1) + pickle.STACK_GLOBAL + pickle.POP,
    "as a type": pickle.GLOBAL + b"numpy\ndtype\n" + recalled(1) + pickle.TUPLE1 + pickle.REDUCE + pickle.POP,
    "as an array": pickle.GLOBAL + b"numpy\nndarray\n" + recalled(1) + pickle.TUPLE1 + pickle.REDUCE + pickle.POP,
    "as a member": pickle.GLOBAL
    + b"builtins\ngetattr\n"
    + pickle.GLOBAL
    + b"some\nClass\n"
    + recalled(1)
    + pickle.TUPLE2
    + pickle.REDUCE
    + pickle.POP,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("large", LARGE)
def test_a_large_value_used_ten_thousand_times_costs_no_more_than_operations_do(large, use):
    message = event(
        b"\x80\x04" + LARGE[large] + pickle.BINPUT + b"\1" + USES[use] * 10_000 + pickle.EMPTY_DICT + pickle.STOP
    )
    began = time.process_time()
    outcome(message)
    assert time.process_time() - began < LIMIT_S


def test_what_is_repeated_can_be_written_out_and_kept():
    """What honest documents repeat, keys and uids, is far within the bounds."""
    uid = "5da75b34-5a1c-4d7b-9c5e-3c0f2a9c9f10"
    datums = {"datum_id": [f"{uid}/{number}" for number in range(20_000)], "resource": uid}
    many = {"data": {"a": [uid] * 20_000}, "keys": [{"dtype": "number", "shape": []}] * 20_000} | datums
    found = decode(dumped(many), max_bytes=1 << 26)
    assert found is not None
    assert found.document == many


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_sets_are_read_as_lists(protocol):
    pickled = pickle.dumps({"a": frozenset({"x", "y"}), "b": {"z"}, "c": 1}, protocol=protocol)
    found = decode(event(pickled), max_bytes=1 << 20)
    assert found is not None
    assert sorted(found.document["a"]) == ["x", "y"]
    assert (found.document["b"], found.document["c"]) == (["z"], 1)


def test_empty_texts_are_read_as_numpy_writes_them():
    found = decode(dumped({"a": np.str_(""), "b": np.array(["", ""]), "c": np.zeros((0, 3), "U5")}), max_bytes=1 << 20)
    assert found is not None
    assert found.document["a"] == ""
    assert found.document["b"].tolist() == ["", ""]
    assert found.document["c"].shape == (0, 3)


def packed_colliding_keys() -> bytes:
    keys = {number * MODULUS % 2**64: None for number in range(1, 9)}
    many = msgpack.packb(keys)[1:] * 5000
    return b"\x92" + msgpack.packb("event") + b"\x81\xa1a" + b"\xdf" + struct.pack(">I", 40_000) + many


def packed_lists_without_end() -> bytes:
    row = b"\xdd" + struct.pack(">I", 250_000) + b"\xc0" * 250_000
    return b"\x92" + msgpack.packb("event") + b"\x81\xa1a" + b"\xdd" + struct.pack(">I", 100) + row * 100


def packed_array(kind: str, shape: list[int], data: bytes) -> bytes:
    table = {b"nd": True, b"type": kind, b"kind": b"", b"shape": shape, b"data": data}
    return b"\x92" + msgpack.packb("event") + msgpack.packb({"a": table})


def packed_record_of_many_fields() -> bytes:
    return packed_array("f4," * 300_000 + "f4", [1], b"")


def packed_texts_of_signs_that_are_none() -> bytes:
    return packed_array("<U1", [2], b"\xff" * 8)


def packed_billion_texts_of_no_length() -> bytes:
    return packed_array("S0", [10**9], b"")


@pytest.mark.parametrize(
    "attack",
    [
        packed_colliding_keys,
        packed_lists_without_end,
        packed_record_of_many_fields,
        packed_texts_of_signs_that_are_none,
        packed_billion_texts_of_no_length,
    ],
)
def test_a_hostile_message_of_kafka_is_refused_within_a_bound(attack):
    message = attack()
    began = time.process_time()
    with pytest.raises(DocumentError):
        decode_packed(message, max_bytes=1 << 28)
    assert time.process_time() - began < LIMIT_S


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
