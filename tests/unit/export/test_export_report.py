"""The report is one file that says what the tomogram is, and its drawings say what they show."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from pfitre_service.export import pictures
from pfitre_service.export.report import report


class Read(HTMLParser):
    """Text and addresses of a page."""

    def __init__(self, page):
        super().__init__()
        self.text, self.addresses, self.alternatives = "", [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            self.alternatives.append(values["alt"])

    def handle_data(self, data):
        self.text += data


def test_the_report_needs_nothing_else_and_names_what_it_shows(tomogram):
    page = report(tomogram)
    read = Read(page)
    assert len(read.addresses) == 3
    assert all(address.startswith("data:image/") for address in read.addresses)
    assert "<script" not in page
    assert not re.search(r"url\(|@import", page)
    assert "chip <7>" in read.text
    for fact in (
        "5da75b34-aaaa",
        "5da75b34-one, 5da75b34-two",
        "ab" * 32,
        "pfitre-s",
        "12.5 nm",
        "the axis was not found",
    ):
        assert fact in read.text
    assert "Angles -60 to 60: edges along" in read.text
    assert "held-out error 12 %" in read.alternatives[1]
    assert read.alternatives[2] == "31 angles, 4 held out; 60 of 180° missing"
    image = matplotlib.image.imread(io.BytesIO(base64.b64decode(read.addresses[0].partition(",")[2])))
    assert image.shape[1] == 1460
    assert image[..., :3].std() > 0.1


def test_a_report_of_a_first_picture_has_no_physics_and_says_that_it_is_not_final(tomogram):
    metadata = {"status": "iterating", "run_uids": [], "geometry": {}}
    first = dataclasses.replace(
        tomogram, metadata=metadata, arrays={"volume": tomogram.main}, progress=tomogram.progress[:1], angles=[3.0]
    )
    read = Read(report(first))
    assert "while the tomogram was iterating, not final" in read.text
    assert "its error was not worked out" in read.text
    assert "not measured" in read.text
    assert "unknown size" in read.text
    assert "a guide, no bound" not in read.text


def test_cuts_go_where_the_contrast_is(tomogram):
    values = np.zeros((37, 20, 24), np.float32)
    values[18:20, 12, 8] = 5
    stored = type(tomogram.main)(values)
    z, y, x = pictures.choose_cuts(dataclasses.replace(tomogram, arrays={"volume": stored}))
    assert z in (18, 19)
    assert (y, x) == (12, 8)


@pytest.mark.parametrize(("about", "length"), [(37.0, 20.0), (50.0, 50.0), (0.3, 0.2), (1.0, 1.0), (999.0, 500.0)])
def test_scale_bars_are_round(about, length):
    assert pictures.round_length(about) == pytest.approx(length)


def test_lengths_are_in_the_unit_that_reads_well():
    assert pictures.in_words(500, 10.0) == "500 nm"
    assert pictures.in_words(2000, 10.0) == "2 µm"
    assert pictures.in_words(20, None) == "20 pixels"
