"""Scan files become documents, with a table of angles where the file has none."""

from __future__ import annotations

from collections import Counter

import h5py
import numpy as np
import pytest
import tifffile

from pfitre_service.config import Settings
from pfitre_service.errors import InputError
from pfitre_service.ingest import DocumentRules
from pfitre_service.ingest.stored_runs.stored_documents import stored_documents
from pfitre_service.offline.doctor import diagnose


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


@pytest.fixture
def counts(tmp_path):
    """A folder of images without flats and darks, whose names leave their order open, and a table of angles."""
    (tmp_path / "images").mkdir()
    for place, name in enumerate(("b1_2.tif", "b2_1.tif")):
        tifffile.imwrite(tmp_path / "images" / name, np.full((2, 8), 500 + place, np.uint16))
    (tmp_path / "angles.csv").write_text("0\n10\n")
    np.save(tmp_path / "flats.npy", np.full((3, 2, 8), 1000, np.uint16))
    np.save(tmp_path / "darks.npy", np.zeros((2, 2, 8), np.uint16))
    return tmp_path


def taken_in(stored):
    """Counts of each stream, the first pixels of projections in order, and what the start document says."""
    documents = list(stored.documents)
    names = {document["uid"]: document["name"] for name, document in documents if name == "descriptor"}
    events = [(names[document["descriptor"]], document["data"]) for name, document in documents if name == "event"]
    pixels = [int(data["image"][0, 0]) for stream, data in events if stream == "primary"]
    return Counter(stream for stream, _ in events), pixels, documents[0][1].get("measurement")


def test_flats_darks_and_order_are_said_as_for_reconstruct(counts):
    options = {"angles": counts / "angles.csv", "flats": str(counts / "flats.npy"), "darks": str(counts / "darks.npy")}
    with pytest.raises(InputError, match="--order"):
        stored_documents(str(counts / "images"), None, DocumentRules(), **options)
    stored = stored_documents(str(counts / "images"), None, DocumentRules(), **options, order="last")
    assert taken_in(stored) == ({"flat": 3, "dark": 2, "primary": 2}, [501, 500], "transmission")
    assert any(note.startswith("flat fields: 3 of") for note in stored.notes)


def test_what_the_images_hold_is_said_and_a_profile_that_says_otherwise_is_refused(counts):
    images, angles = str(counts / "images"), counts / "angles.csv"
    for measurement, other in (("transmission", "line_integral"), ("line_integral", "transmission")):
        rules = DocumentRules(measurement=measurement)
        given = {"angles": angles, "order": "last", "measurement": measurement}
        assert taken_in(stored_documents(images, None, rules, **given))[2] == measurement
        assert taken_in(stored_documents(images, None, DocumentRules(), **given))[2] == measurement
        with pytest.raises(InputError, match=f"--measurement {measurement} contradicts documents.measurement"):
            stored_documents(images, None, DocumentRules(measurement=other), **given)
    assert taken_in(stored_documents(images, None, DocumentRules(), angles=angles, order="last"))[2] is None


def test_flats_of_line_integrals_are_left_out_and_that_is_said(without_theta, tmp_path):
    (tmp_path / "angles.csv").write_text("0\n10\n20\n")
    given = {"angles": tmp_path / "angles.csv", "measurement": "line_integral"}
    stored = stored_documents(str(without_theta), None, DocumentRules(), **given)
    assert taken_in(stored)[0] == {"primary": 3}
    assert any("said to be line integrals" in note for note in stored.notes)


def test_the_doctor_takes_the_same_and_says_how_the_files_were_read(counts):
    given = {"angles": counts / "angles.csv", "order": "last"}
    with_flats = diagnose(str(counts / "images"), None, Settings(), **given, flats=str(counts / "flats.npy"))
    assert any(line["text"].startswith("flat fields: 3 of") for line in with_flats["lines"])
    without = diagnose(str(counts / "images"), None, Settings(), **given)
    assert not any("flat fields" in line["text"] for line in without["lines"])


@pytest.mark.parametrize("option", ["axis", "angles", "flats", "darks", "measurement", "order"])
def test_options_of_scan_files_are_refused_for_documents(tmp_path, option):
    lines = tmp_path / "run.jsonl"
    lines.write_text('["start", {"uid": "a", "time": 1.0}]\n')
    values = {"axis": 3.0, "angles": tmp_path / "angles.csv", "measurement": "transmission", "order": "last"}
    value = values.get(option, "references.npy")
    for source in (str(lines), "http://127.0.0.1:1"):
        with pytest.raises(InputError, match=f"--{option} is for scan files"):
            stored_documents(source, None, DocumentRules(), **{option: value})
