"""Documents as lines of text, as different programs write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
from bluesky.callbacks.json_writer import JSONLinesWriter, JSONWriter

from pfitre_service.errors import InputError
from pfitre_service.ingest import AddFrames, DocumentRules, JsonLines, TomogramAssembler, holds_documents
from pfitre_service.offline.fresh_uids import FreshUids

RULES = DocumentRules(rotation="theta")


@pytest.fixture
def documents(scan) -> list[tuple[str, dict[str, Any]]]:
    """A run whose descriptor tells the type of its images."""
    documents = [*scan.whole(3)]
    documents[1][1]["data_keys"]["camera"]["dtype_numpy"] = "<u2"
    return [(name, event_model.sanitize_doc(document)) for name, document in documents]


def pairs(path: Path, documents: Any) -> None:
    path.write_text("".join(json.dumps([name, document]) + "\n" for name, document in documents))


def tables(path: Path, documents: Any) -> None:
    writer = JSONLinesWriter(str(path.parent), path.name)
    for name, document in documents:
        writer(name, document)


def bracketed(path: Path, documents: Any) -> None:
    writer = JSONWriter(str(path.parent), path.name)
    for name, document in documents:
        writer(name, document)


def json_sequence(path: Path, documents: Any) -> None:
    records = [json.dumps({"name": name, "doc": document}) for name, document in documents]
    path.write_text("".join(f"\x1e{record}\n" for record in records))


def one_line(path: Path, documents: Any) -> None:
    path.write_text(json.dumps([[name, document] for name, document in documents]))


@pytest.mark.parametrize("write", [pairs, tables, bracketed, json_sequence, one_line])
def test_every_way_of_writing_gives_the_same_documents(tmp_path, documents, write):
    path = tmp_path / "run.jsonl"
    write(path, documents)
    assert holds_documents(path)
    lines = JsonLines(path)
    for _ in range(2):  # a file can be read again
        assert [(name, event_model.sanitize_doc(document)) for name, document in lines] == documents
        assert lines.left_out == 0


def test_arrays_come_back_with_the_type_that_the_descriptor_names(tmp_path, documents):
    tables(tmp_path / "run.jsonl", documents)
    events = [document for name, document in JsonLines(tmp_path / "run.jsonl") if name == "event"]
    assert [event["data"]["camera"].dtype for event in events] == [np.dtype("u2")] * 3
    documents[2][1]["data"]["camera"][0][0] = 1.5  # which no unsigned integer holds
    tables(tmp_path / "other.jsonl", documents)
    first = next(document for name, document in JsonLines(tmp_path / "other.jsonl") if name == "event")
    assert first["data"]["camera"][0, 0] == 1.5


def test_malformed_lines_are_named_by_number_counted_and_left_out(tmp_path, documents):
    path = tmp_path / "run.jsonl"
    good = [json.dumps([name, document]) for name, document in documents]
    bad = ["{", '["start"]', '{"name": "sing", "doc": {}}', '["event", 3]', "[" * 100_000, "7"]
    path.write_text("\n".join([good[0], *bad, *good[1:], *["!"] * 30]))
    lines = JsonLines(path)
    assert len([*lines]) == len(documents)
    assert (lines.left_out, len(lines.faults)) == (36, 20)
    assert [fault.partition(":")[0] for fault in lines.faults[:6]] == [f"line {number}" for number in range(2, 8)]
    assert "'sing'" in lines.faults[2]


@pytest.mark.parametrize("content", ["", "{}\n{}\n", '{\n "name": "start"\n}\n'])
def test_a_file_without_documents_is_refused(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(InputError, match="for each document"):
        list(JsonLines(path))


def test_new_uids_hold_a_run_together_and_differ_each_time(documents):
    uids = []
    for _ in range(2):
        new = FreshUids()
        renamed = [(name, new.renamed(name, document)) for name, document in documents]
        assembler = TomogramAssembler(RULES)
        actions = [action for name, document in renamed for action in assembler.handle(name, document)]
        assert sum(len(action.frames) for action in actions if isinstance(action, AddFrames)) == 3
        assert renamed[0][1]["replay_of"] == documents[0][1]["uid"]
        uids.append(renamed[0][1]["uid"])
    assert len({*uids, documents[0][1]["uid"]}) == 3


def test_new_uids_reach_datums_pages_and_the_run_with_the_flats():
    new = FreshUids()
    first = new.renamed("start", {"uid": "run-flats"})
    second = new.renamed("start", {"uid": "run-1", "current_dark_flat_scan_uid": "run-flats", "sample_name": "run"})
    assert second["current_dark_flat_scan_uid"] == first["uid"]
    assert second["sample_name"] == "run"
    keys = {"camera": {"external": "FILESTORE:"}, "theta": {}}
    descriptor = new.renamed("descriptor", {"uid": "d", "run_start": "run-1", "data_keys": keys})
    page = new.renamed("datum_page", {"resource": "r", "datum_id": ["r/0", "r/1"], "datum_kwargs": {}})
    event = new.renamed("event", {"uid": "e", "descriptor": "d", "data": {"camera": "r/1", "theta": 3.0}})
    assert descriptor["run_start"] == second["uid"]
    assert event["descriptor"] == descriptor["uid"]
    assert event["data"] == {"camera": page["datum_id"][1], "theta": 3.0}
