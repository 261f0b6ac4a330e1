"""Whatever the texts of a tomogram hold, every export and the report are written, and say it in signs that are seen."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import pytest
import tifffile
import zarr

from pfitre_service.export.files import export_tomogram
from pfitre_service.export.report import report

HOSTILE = [
    "[/nosuch]",
    "$\\frac{",
    "<script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[2J\x9b\x07",
    "a\0b",
    "\ud800",
    "\u202egnp.exe\u200b",
    "試料 µm",
    "x" * 100_000,
]


@pytest.fixture(params=HOSTILE, ids=range(len(HOSTILE)))
def called(request, tomogram):
    """A tomogram all of whose texts are hostile, and the text."""
    text = request.param
    texts = dict.fromkeys(("sample", "reason", "status", "prior", "software", "profile", "device", "element"), text)
    more = {"weights_sha256": text, "run_uids": [text], "warnings": [text], "quality": {"sentence": text}}
    return replace(tomogram, metadata={**tomogram.metadata, **texts, **more}, source=text), text


@pytest.mark.parametrize(("kind", "end"), [("nexus", ".h5"), ("tiff", ".tif"), ("ome-zarr", ".ome.zarr")])
def test_every_format_is_written_and_read_back(called, kind, end, tmp_path):
    tomogram, text = called
    path = tmp_path / f"a{end}"
    export_tomogram(tomogram, kind, path)
    if kind == "nexus":
        with h5py.File(path) as file:
            title = file["entry/title"][()].decode()
            told = json.loads(file["entry/reconstruction/provenance/data"][()])
    elif kind == "tiff":
        with tifffile.TiffFile(path) as file:
            told = json.loads(file.imagej_metadata["Info"])
        title = told["name"]
    else:
        attributes = zarr.open_group(path, mode="r").attrs
        told, title = attributes["pfitre"], attributes["ome"]["omero"]["name"]
    assert title.isprintable()
    assert len(title) < 300
    if text.isprintable():
        assert told["sample"] == text
        assert title.startswith(text[:200])


def test_the_report_is_a_page_of_visible_text(called):
    page = report(called[0])
    page.encode("utf-8")
    assert all(sign.isprintable() or sign in "\n\xa0" for sign in page)
    assert "<script>" not in page
    assert ">49<" not in page
