"""Scan files become documents, with a table of angles where the file has none."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.ingest import DocumentRules
from pfitre_service.ingest.stored_runs.stored_documents import stored_documents


@pytest.fixture
def without_theta(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.full((3, 2, 8), 500, np.uint16)
        file["exchange/data_white"] = np.full((1, 2, 8), 1000, np.uint16)
        file["exchange/data_dark"] = np.zeros((1, 2, 8), np.uint16)
    return path


def test_a_table_gives_the_angles_that_data_exchange_lacks(without_theta, tmp_path):
    table = tmp_path / "angles.csv"
    table.write_text("angle\n-10\n0\n12.5\n")
    rules = DocumentRules(rotation="theta")
    stored = stored_documents(str(without_theta), None, rules, angles=table)
    events = [document["data"] for name, document in stored.documents if name == "event"]
    assert [data["theta"] for data in events if "theta" in data] == [-10, 0, 12.5]
    with pytest.raises(InputError, match="theta"):
        stored_documents(str(without_theta), None, rules)


@pytest.mark.parametrize("option", ["axis", "angles"])
def test_options_of_scan_files_are_refused_for_documents(tmp_path, option):
    lines = tmp_path / "run.jsonl"
    lines.write_text('["start", {"uid": "a", "time": 1.0}]\n')
    value = {"axis": 3.0, "angles": tmp_path / "angles.csv"}[option]
    for source in (str(lines), "http://127.0.0.1:1"):
        with pytest.raises(InputError, match=f"--{option} is for scan files"):
            stored_documents(source, None, DocumentRules(), **{option: value})
