"""Messages of bluesky-kafka: made by the very library that it packs with, and read without it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.decoding.msgpack_decoder import decode_packed
from pfitre_service.ingest.decoding.pickle_decoder import UnknownNameError


def packed(name: Any, document: Any) -> bytes:
    return msgpack.packb((name, document), default=msgpack_numpy.encode, use_bin_type=True)


def read(message: bytes, max_bytes: int = 1 << 20) -> dict[str, Any]:
    return decode_packed(message, max_bytes=max_bytes).document


class Attack:
    """Runs code in every process that unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i4", "f4", "f8", "?", "U3"])
def test_arrays_come_as_they_were(dtype):
    image = np.arange(12).reshape(3, 4).astype(dtype)
    decoded = decode_packed(packed("event", {"data": {"camera": image}, "seq_num": 1}), max_bytes=1000)
    assert (decoded.name, decoded.document["seq_num"], decoded.foreign) == ("event", 1, frozenset())
    np.testing.assert_array_equal(decoded.document["data"]["camera"], image)
    assert decoded.document["data"]["camera"].dtype == image.dtype


def test_numbers_of_numpy_become_plain_ones():
    document = read(packed("event", {"data": {"theta": np.float32(1.5), "n": np.int64(3), "z": 1 + 2j}}))
    assert document["data"] == {"theta": 1.5, "n": 3, "z": "(1+2j)"}
    assert type(document["data"]["n"]) is int


def test_empty_and_zero_dimensional_arrays_come_through():
    data = read(packed("event", {"data": {"a": np.zeros((0, 4)), "b": np.array(7)}}))["data"]
    assert (data["a"].shape, data["b"].shape, int(data["b"])) == ((0, 4), (), 7)


@pytest.mark.parametrize("patched", [False, True])
def test_pickled_objects_are_refused_also_where_msgpack_was_patched(tmp_path, patched):
    if patched:
        import bluesky_kafka  # noqa: F401  (replaces msgpack's functions)

    harm = tmp_path / "harm"
    objects = np.array([Attack(harm), 1], dtype=object)
    by_hand = {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": (1,), b"data": pickle.dumps(Attack(harm))}
    for image in (objects, by_hand, by_hand | {b"kind": b""}):
        with pytest.raises(DocumentError, match=r"not read|expected an array of numbers"):
            read(packed("event", {"data": {"camera": image}}))
    assert not harm.exists()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (
            {b"nd": True, b"type": "<u2", b"kind": b"", b"shape": [1 << 40, 1 << 40], b"data": b"12"},
            "cannot have 2 bytes",
        ),
        ({b"nd": True, b"type": "<u2", b"kind": b"", b"shape": [-1], b"data": b"12"}, "expected the shape"),
        ({b"nd": True, b"type": "<u2", b"kind": b"", b"shape": [1] * 40, b"data": b"12"}, "expected the shape"),
        ({b"nd": True, b"type": "<u2", b"kind": b"", b"shape": 3, b"data": b"12"}, "expected an array of numbers"),
        ({b"nd": True, b"type": "nonsense", b"kind": b"", b"shape": [1], b"data": b"12"}, "cannot be read as msgpack"),
        ({b"nd": True, b"type": [("a", "<u2")], b"kind": b"V", b"shape": [1], b"data": b"12"}, "objects or records"),
        ({b"nd": True}, "objects or records"),
        ({b"nd": False, b"type": "<f8", b"data": b""}, "cannot have 0 bytes"),
    ],
)
def test_arrays_that_cannot_be_are_refused(array, says):
    with pytest.raises(DocumentError, match=says):
        read(packed("event", {"data": {"camera": array}}))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"", "cannot be read as msgpack"),
        (b"\x92", "cannot be read as msgpack"),
        (b"\x91" * 100_000, "cannot be read as msgpack"),  # lists in lists without end
        (b"\xdd\xff\xff\xff\xff", "cannot be read as msgpack"),  # a list that claims four thousand million items
        (b"\xc6\xff\xff\xff\xff" + b"x" * 10, "cannot be read as msgpack"),
        (packed("event", {}) + b"\x00", "cannot be read as msgpack"),
        (msgpack.packb(["event"]), "expected .name, document."),
        (msgpack.packb(["event", [1]]), "expected .name, document."),
        (msgpack.packb({"event": {}}), "expected .name, document."),
        (packed("event", {"data": "x" * 3000}), "larger than the 2,000"),
    ],
    ids=range(10),
)
def test_what_is_no_document_is_refused(message, says):
    with pytest.raises(DocumentError, match=says):
        read(message, max_bytes=2000 if len(message) < 100_000 else 1 << 20)


@pytest.mark.parametrize("name", ["sing", 7, b"start", None])
def test_unknown_names_are_counted_apart(name):
    with pytest.raises(UnknownNameError, match="unknown document name"):
        read(packed(name, {}))
