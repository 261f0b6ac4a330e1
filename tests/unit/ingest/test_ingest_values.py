"""Sequence numbers, JSON-safe metadata, and addresses."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfitre_service.addresses import endpoint
from pfitre_service.errors import SettingsError
from pfitre_service.ingest.document_values import finite, json_safe, whole
from pfitre_service.ingest.sequence import SequenceTracker, in_words


@given(st.lists(st.integers(1, 30)), st.integers(0, 40))
def test_seen_numbers_agree_with_a_plain_set(numbers, announced):
    seen, plain = SequenceTracker(), set()
    for number in numbers:
        highest = max(plain, default=0)
        expected = "duplicate" if number in plain else "late" if number < highest else "new"
        assert seen.add(number) == expected
        plain.add(number)
    assert seen.missing(announced) == max([*plain, announced]) - len(plain)
    gaps = [number for low, high in seen.gaps(announced) for number in range(low, high + 1)]
    assert gaps == sorted(set(range(1, max([*plain, announced]) + 1)) - plain)


def test_ranges_in_words():
    assert in_words([(9, 9), (3, 3), (5, 7), (8, 8)]) == "3, 5-9"
    assert in_words([(n, n) for n in range(1, 30, 3)], most=2) == "1, 4 and 8 more ranges"
    assert in_words([]) == ""


def test_a_long_scan_without_gaps_costs_no_memory():
    seen = SequenceTracker()
    for number in range(1, 100_001):
        seen.add(number)
    assert (seen.beyond, seen.missing()) == (set(), 0)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
    )
)
def test_any_document_becomes_json(value):
    safe = json_safe({"value": value, "array": np.array([1.0, math.nan]), "number": np.int16(3)})
    assert json.loads(json.dumps(safe, allow_nan=False)) == safe
    assert (safe["array"], safe["number"]) == ([1.0, None], 3)
    json.dumps(safe, ensure_ascii=False).encode("utf-8")


def test_what_repeats_itself_without_end_stays_small():
    bomb: Any = ["x"]
    for _ in range(100):
        bomb = [bomb, bomb]
    assert len(json.dumps(json_safe({"bomb": bomb, "image": np.zeros((500, 500)), "text": "x" * 10**6}))) < 10**6


def test_numbers_are_told_from_what_only_looks_like_one():
    assert [whole(value) for value in (3, np.int64(3), True, 3.0, "3", 2**60, None)] == [3, 3, *[None] * 5]
    assert [finite(value) for value in (3, np.float32(0.5), math.nan, 10**400, False, "3")] == [3.0, 0.5, *[None] * 4]


@pytest.mark.parametrize("address", ["127.0.0.1:5568", "tcp://127.0.0.1:5568"])
def test_addresses_are_read_as_people_write_them(address):
    assert endpoint(address) == "tcp://127.0.0.1:5568"
    assert endpoint("ipc:///tmp/documents") == "ipc:///tmp/documents"
    with pytest.raises(SettingsError, match="expected a 0MQ address"):
        endpoint(address + "0000")
