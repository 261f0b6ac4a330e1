"""Reading pickled documents from a network that nobody vouches for."""

from __future__ import annotations

import collections
import enum
import io
import os
import pickle
import resource
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.decoding.decoded import DOCUMENT_NAMES
from pfitre_service.ingest.decoding.pickle_decoder import UnknownNameError, decode


def message(document: Any, *, name: bytes = b"event", prefix: bytes = b"", protocol: int = 4) -> bytes:
    return b" ".join([prefix, name, pickle.dumps(document, protocol=protocol)])


def read(raw: bytes, **options: Any) -> Any:
    decoded = decode(raw, **{"max_bytes": 1 << 26, **options})
    assert decoded is not None
    return decoded.document


class Trigger(enum.Enum):
    INTERNAL = "internal"


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_the_names_are_those_of_event_model():
    assert {entry.name for entry in event_model.DocumentNames} == DOCUMENT_NAMES


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype="u2").reshape(3, 4),
        np.arange(12, dtype=">f4").reshape(3, 4),
        np.arange(24.0).reshape(2, 3, 4).T,
        np.arange(24.0).reshape(4, 6)[::2, ::3],
        np.array([True, False]),
        np.array(["ab", "c"]),
        np.array([b"ab", b"c"]),
        np.zeros((0, 5)),
        np.array(3.5),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_survive_every_protocol(array, protocol):
    found = read(message({"data": {"image": array}}, protocol=protocol))["data"]["image"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert not found.flags.writeable


@pytest.mark.parametrize("protocol", [4, 5])
def test_an_image_is_copied_out_of_its_message_once(protocol):
    image = np.ones((1024, 1024), np.uint16)
    whole = message({"data": {"image": image}}, protocol=protocol)
    tracemalloc.start()
    try:
        found = read(whole)["data"]["image"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not np.shares_memory(found, np.frombuffer(whole, np.uint8))
    assert image.nbytes <= peak < 1.1 * image.nbytes


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_and_numpy_numbers_become_plain_values(protocol):
    document = {
        "ordered": collections.OrderedDict(a=1, b=[1.5, None, True, "ü", b"x"]),
        "numbers": (np.float64(1.5), np.int32(-3), np.bool_(True), np.float32(0.5), 2**70),
        "set": {1},
    }
    found = read(message(document, protocol=protocol))
    assert found == {
        "ordered": {"a": 1, "b": [1.5, None, True, "ü", b"x"]},
        "numbers": (1.5, -3, True, 0.5, 2**70),
        "set": [1],
    }
    assert [type(number) for number in found["numbers"]] == [float, int, bool, float, int]
    assert type(found["ordered"]) is dict


def test_numpy_1_and_2_name_their_modules_differently_and_both_are_read():
    raw = message({"a": np.arange(3.0), "b": np.float64(2)}, protocol=3)
    older = raw.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert older != raw
    assert read(older)["b"] == 2.0


def test_a_prefix_picks_one_publisher():
    raw = message({"a": 1}, prefix=b"hxn")
    assert read(raw) == read(raw, prefix=b"hxn") == {"a": 1}
    assert decode(raw, max_bytes=1000, prefix=b"fxi") is None


def test_code_in_a_pickle_is_not_run_wherever_it_stands(tmp_path):
    target = tmp_path / "proof"
    with pytest.raises(DocumentError, match="expected a table of keys"):
        read(message(Payload(target)))
    decoded = decode(message({"a": 1, "b": [Payload(target)]}), max_bytes=10_000)
    assert decoded is not None
    assert decoded.document["a"] == 1
    assert decoded.foreign == {"posix.mkdir"}
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))  # noqa: S301 - shows that the payload does work
    assert target.exists()


def test_instances_of_unknown_classes_become_text():
    found = decode(message({"trigger": Trigger.INTERNAL, "path": Path("/data")}), max_bytes=10_000)
    assert found is not None
    assert found.document["trigger"] in ("internal", "INTERNAL")  # its value, or its name: as Python pickles it
    assert len(found.foreign) == 2


def test_a_member_by_its_name_becomes_that_name_and_no_attribute_is_looked_up():
    class Member:
        def __reduce__(self):
            return getattr, (Trigger, "INTERNAL")

    class Attribute:
        def __reduce__(self):
            return getattr, ("text", "upper")

    found = decode(message({"trigger": Member()}), max_bytes=10_000)
    assert found is not None
    assert found.document["trigger"] == "INTERNAL"
    with pytest.raises(DocumentError, match="no enumeration"):
        read(message({"trigger": Attribute()}))


BOMB: Any = []
for _ in range(60):
    BOMB = [BOMB, BOMB]
TUPLES: Any = ()
for _ in range(60):
    TUPLES = (TUPLES, TUPLES)
CYCLE: list[Any] = []
CYCLE.append(CYCLE)


def nested_tuples_as_key() -> bytes:
    """{((..), (..)): None}: hashing it would take 2^60 steps."""
    return b"}" + pickle.dumps(TUPLES, 2)[2:-1] + b"Ns."


def nested_tuples_as_type() -> bytes:
    """numpy.dtype(((..), (..))): writing it into a message would take 2^60 steps."""
    return b"cnumpy\ndtype\n" + pickle.dumps(TUPLES, 2)[2:-1] + b"\x85R."


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"garbage",
        b".",
        b"(((((((",
        pickle.dumps([1, 2]),
        pickle.dumps({"a": np.array([object()], dtype=object)}),
        pickle.dumps({"a": np.zeros(3, dtype=[("x", "f8")])}),
        pickle.dumps({"a": BOMB}),
        pickle.dumps({"a": TUPLES}),
        pickle.dumps({"a": CYCLE}),
        pickle.dumps({(1, 2): 3}),
        nested_tuples_as_key(),
        nested_tuples_as_type(),
        b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x8d" + struct.pack("<Q", 1 << 62) + b"abc.",
        b"cos\nsystem\n(S'touch /tmp/never'\ntR.",
        b"(S'touch /tmp/never'\nios\nsystem\n.",
        b"ccollections\nOrderedDict\n}S'__init__'\nNsb.",
        b"cnumpy._core.multiarray\nscalar\n}S'x'\nNsb.",
        b"Pid.",
        b"\x82\x01.",
    ],
)
def test_garbage_and_bombs_are_refused_at_once_and_alike(pickled):
    began = time.process_time()
    with pytest.raises(DocumentError):
        read(b" event " + pickled)
    assert time.process_time() - began < 5.0


def test_a_note_at_a_huge_index_costs_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read(b" event }r\xff\xff\xff\x7f.") == {}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


def test_an_array_cannot_claim_more_than_its_bytes():
    raw = pickle.dumps({"a": np.zeros(3)}, protocol=4)
    for found, forged in ((b"K\x03\x85", b"K\x09\x85"), (b"\x8c\x02f8", b"\x8c\x02f4"), (b"\x8c\x02f8", b"\x8c\x02O8")):
        assert found in raw
        with pytest.raises(DocumentError):
            read(b" event " + raw.replace(found, forged))


@pytest.mark.parametrize("raw", [b"", b"start", b"start nothing", b"\x00\xff", b"  "])
def test_what_is_no_message_is_refused(raw):
    with pytest.raises(DocumentError):
        read(raw)


def test_an_unknown_name_is_told_apart():
    with pytest.raises(UnknownNameError, match="sabotage"):
        read(message({}, name=b"sabotage"))
    with pytest.raises(UnknownNameError):
        read(message({}, name=b"\xff\xfe"))


def test_a_message_that_is_too_large_is_refused_before_it_is_read():
    with pytest.raises(DocumentError, match="larger than the 100"):
        read(message({"a": b"x" * 200}), max_bytes=100)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_messages_raise_nothing_else(data):
    raw = bytearray(message({"uid": "a", "data": {"image": np.arange(6.0), "x": np.float64(1)}, "n": [1, (2, "b")]}))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(7, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(raw), max_bytes=10_000)
    except DocumentError:
        return
    assert decoded is not None
    assert isinstance(decoded.document, dict)
    pickle.dump(decoded.document, io.BytesIO())
