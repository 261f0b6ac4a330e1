"""One document must not stop ingest after it is decoded either: what it asks for is bounded in time and memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

from pfitre_service.ingest import AddDocument, DocumentRules, OpenTomogram, TomogramAssembler
from pfitre_service.ingest.assembly.angle_track import AngleTrack
from pfitre_service.ingest.document_values import json_safe, quoted
from pfitre_service.text_output import storable

pytestmark = pytest.mark.no_cover  # which makes everything several times as slow

LIMIT_S = 2.0
"""Half a second is usual; the rest is for a busy machine."""
MILLION = 1_000_000
THETA = {"dtype": "number", "shape": [], "source": "stage"}
IMAGE = {"dtype": "array", "shape": [4, 4], "source": "camera"}
TEXT = "x" * 1_000_000


def begun(**descriptor: Any) -> TomogramAssembler:
    """With an open run `r`, whose stream `d` has images and angles."""
    assembler = TomogramAssembler(DocumentRules(rotation="theta"))
    assembler.handle("start", {"uid": "r", "time": 0.0})
    keys = {"theta": THETA, "image": {**IMAGE, **descriptor}}
    assembler.handle("descriptor", {"uid": "d", "run_start": "r", "name": "primary", "data_keys": keys})
    resource = {"uid": "s", "run_start": "r", "data_key": "image", "mimetype": "application/x-hdf5", "parameters": {}}
    assembler.handle("stream_resource", {**resource, "uri": "file://localhost/data.h5"})
    return assembler


def stream_datum(events: int) -> dict[str, Any]:
    numbers = {"start": 1, "stop": events + 1}
    return {"stream_resource": "s", "descriptor": "d", "indices": {"start": 0, "stop": events}, "seq_nums": numbers}


COSTLY = {
    "a page of a million rows in a megabyte": (
        "event_page",
        {"descriptor": "d", "seq_num": np.zeros(MILLION, np.uint8), "data": {}},
    ),
    "a page of many rows and many columns": (
        "event_page",
        {"descriptor": "d", "seq_num": [1] * 9000, "data": {f"k{n}": np.zeros(9000, np.uint8) for n in range(9000)}},
    ),
    "a page whose every row quotes a long text": (
        "event_page",
        {"descriptor": [TEXT], "seq_num": [1] * 50_000, "data": {}},
    ),
    "a datum page of a million rows": (
        "datum_page",
        {"resource": "s", "datum_id": np.zeros(MILLION, np.uint8), "datum_kwargs": {}},
    ),
    "a stream datum of a million events": ("stream_datum", stream_datum(MILLION)),
    "a uid that is a list of long texts": ("event", {"descriptor": [TEXT] * 100_000}),
    "a number that is a list of long texts": ("event", {"descriptor": "d", "seq_num": [TEXT] * 100_000}),
    "an image of texts, one of them long": (
        "event",
        {"descriptor": "d", "seq_num": 1, "time": 0.0, "data": {"theta": 1.0, "image": [[TEXT], *[["a"]] * 99_999]}},
    ),
}


@pytest.mark.parametrize("what", COSTLY)
def test_a_costly_document_is_left_out_in_little_time_and_memory(what):
    name, document = COSTLY[what]
    assembler = begun(external="STREAM:") if name == "stream_datum" else begun()
    tracemalloc.start()
    began = time.process_time()
    actions = assembler.handle(name, document)
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < LIMIT_S
    assert peak < 100 << 20
    assert all(len(action.message) < 1000 for action in actions)
    counts = assembler.counts
    assert counts.malformed + sum(counts.refused.values()) == 1


def test_documents_that_are_kept_are_bounded_in_all():
    """Twenty thousand references to one text of ten thousand letters are 200 MB of JSON."""
    start = {"uid": "r", "time": 0.0, "notes": ["x" * 10_000] * 19_000, "k" * 50_000: 1}
    assembler = TomogramAssembler(DocumentRules(rotation="theta"))
    assembler.handle("start", start)
    keys = {"theta": THETA, "image": IMAGE, "more": {"source": ["y" * 10_000] * 19_000}}
    (opened,) = [
        action
        for action in assembler.handle(
            "descriptor", {"uid": "d", "run_start": "r", "name": "primary", "data_keys": keys}
        )
        if isinstance(action, OpenTomogram)
    ]
    assert len(json.dumps([opened.start, *opened.descriptors])) < 5_000_000
    assert opened.start["uid"] == "r"
    assert len(opened.start["notes"]) == 19_000


def test_angles_out_of_order_cost_no_more_than_others():
    """As they would if each were put in its place at once: in the square of their number."""
    track = AngleTrack()
    began = time.process_time()
    for number in range(200_000):
        track.add(float(-number), 2.0 * number)
    track.close()
    assert track.at(np.array([-1000.5])) == pytest.approx([2001.0])
    assert time.process_time() - began < LIMIT_S


def test_kept_texts_can_be_written_as_utf_8_and_say_what_was_cut():
    kept = json_safe({"sample": "\ud800" + "x" * 10_001, "\udfff": 1})
    assert json.loads(json.dumps(kept, ensure_ascii=False).encode("utf-8")) == kept
    assert kept["sample"].endswith("... (2 more characters)")
    assert storable("short", 10) == "short"


@pytest.mark.parametrize("value", [TEXT, [TEXT] * 1000, {"a": [TEXT] * 1000}, TEXT.encode(), np.zeros((9, 9)), None])
def test_a_value_is_quoted_in_a_few_words(value):
    assert 0 < len(quoted(value)) <= 60


def test_an_honest_page_and_an_honest_stream_datum_of_many_events_are_taken():
    assembler = begun()
    rows = 2000
    images = np.zeros((rows, 4, 4), np.uint16)
    data = {"image": list(images), "theta": np.linspace(0, 90, rows)}
    page = {"descriptor": "d", "seq_num": list(range(1, rows + 1)), "time": [0.0] * rows, "data": data}
    assembler.handle("event_page", {**page, "timestamps": {}})
    assert assembler.counts.frames["projection"] == rows
    in_files = begun(external="STREAM:")
    in_files.handle("stream_datum", stream_datum(50_000))
    assert in_files.counts.malformed == 0
    assert not [one for one in in_files.handle("stop", {"run_start": "r"}) if isinstance(one, AddDocument)]
