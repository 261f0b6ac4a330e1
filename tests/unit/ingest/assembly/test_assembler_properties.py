"""Whatever the network does to the order of documents, each run gets its frames; whatever it sends, nothing breaks."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pfitre_service.ingest import AddFrames, CloseTomogram, DocumentRules, TomogramAssembler
from pfitre_service.ingest.decoding.decoded import DOCUMENT_NAMES


def _scan_class() -> Any:
    spec = importlib.util.spec_from_file_location("ingest_scans", Path(__file__).parents[1] / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Scan


Scan = _scan_class()
POINTS = 6
RUNS = (Scan("run-a"), Scan("run-b", shape=(3, 3)))


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations([(run, number) for run in RUNS for number in range(1, POINTS + 1)]),
    again=st.lists(st.integers(0, 2 * POINTS - 1), max_size=10),
    early=st.integers(0, POINTS),
)
def test_any_order_and_repetition_of_events_gives_each_run_the_same_frames(order, again, early):
    events = [run.event(number) for run, number in [*order, *(order[index] for index in again)]]
    starts = [document for run in RUNS for document in (run.start(), run.descriptor())]
    stops = [run.stop(num_events={"primary": POINTS}) for run in RUNS]
    assembler = TomogramAssembler(DocumentRules())
    documents = [*events[:early], *starts, *events[early:], *stops]
    actions = [action for document in documents for action in assembler.handle(*document)]

    frames = Counter((f.run_uid, f.seq_num, f.angle) for a in actions if isinstance(a, AddFrames) for f in a.frames)
    assert frames == Counter({(run.uid, n, 10.0 * n): 1 for run in RUNS for n in range(1, POINTS + 1)})
    closed = {a.key.id: a.counts for a in actions if isinstance(a, CloseTomogram)}
    assert all(counts.missing == {} and counts.projections == POINTS for counts in closed.values())
    assert assembler.counts.duplicates == len(again)


WORDS = st.sampled_from(["run-a", "run-a-primary", "primary", "flat", "camera", "theta", "../x", "success", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    (
        "uid",
        "run_start",
        "descriptor",
        "name",
        "data_keys",
        "data",
        "seq_num",
        "time",
        "hints",
        "motors",
        "num_events",
        "measurement",
        "sample",
        "rotation_axis",
        "exit_status",
        "reason",
        "scan_id",
        "shape",
    )
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(DOCUMENT_NAMES)), st.dictionaries(KEYS, VALUES) | VALUES), max_size=8),
    st.integers(0, 3),
)
def test_no_document_raises_or_harms_another_run(garbage, place):
    run = Scan("untouched")
    good = list(run.whole(2))
    documents = [*good[:place], *garbage, *good[place:]]
    assembler = TomogramAssembler(DocumentRules())
    actions = [action for document in documents for action in assembler.handle(*document)]
    frames = [f for a in actions if isinstance(a, AddFrames) for f in a.frames if f.run_uid == "untouched"]
    assert [f.seq_num for f in frames] == [1, 2]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(DOCUMENT_NAMES)), st.dictionaries(KEYS, VALUES)), max_size=6), VALUES)
def test_a_good_run_with_damaged_documents_never_raises(damage, value):
    run = Scan("run-a")
    assembler = TomogramAssembler(DocumentRules())
    for name, document in run.whole(2):
        assembler.handle(name, document)
        for other, change in damage:
            if other == name:
                assembler.handle(name, {**document, **change})
                assembler.handle(name, {**document, "data": {"camera": value, "theta": value}, "data_keys": value})
    assert assembler.counts.documents["start"] >= 1
