"""Fluorescence tomography at HXN: many runs and three elements become three tomograms of maps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from pfitre_service.ingest import (
    AddRun,
    CloseTomogram,
    DocumentRules,
    EndRun,
    FrameFiles,
    OpenTomogram,
    ReadFrames,
    TomogramAssembler,
    WithdrawRun,
    frames_of,
)
from pfitre_service.ingest.rules import MapRules
from pfitre_service.twin.beamlines.hxn import hxn_tomography
from pfitre_service.twin.beamlines.raster_sample import RasterSample, raster_sample

ELEMENTS = ("Cu", "Fe", "Ni")


class Scan:
    """The documents of one scan, and what becomes of them."""

    def __init__(self, documents: list[tuple[str, dict[str, Any]]], rules: DocumentRules) -> None:
        self.documents, self.rules = documents, rules
        self.assembler = TomogramAssembler(rules)
        self.actions = [action for name, document in documents for action in self.assembler.handle(name, document)]

    def of(self, kind: type) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]

    def maps(self) -> dict[str, dict[str, tuple[float, np.ndarray]]]:
        """By key and run: angle and map."""
        files, found = FrameFiles(self.rules.roots), defaultdict(dict)
        for read in self.of(ReadFrames):
            (frame,) = frames_of(read, files)
            found[str(read.key)][read.run_uid] = (frame.angle, frame.image)
        return found


@pytest.fixture(scope="module")
def sample() -> RasterSample:
    return raster_sample(angles=12)


@pytest.fixture(scope="module")
def scan(
    module_engine: RunEngine,
    sample: RasterSample,
    rules_of_profile: Callable[..., DocumentRules],
    tmp_path_factory: pytest.TempPathFactory,
) -> Scan:
    folder = tmp_path_factory.mktemp("hxn")
    documents: list[tuple[str, dict[str, Any]]] = []
    plan = hxn_tomography(sample, folder, redone=3, align_every=5)
    module_engine(plan, lambda name, document: documents.append((name, document)))
    return Scan(documents, rules_of_profile("hxn-xrf", folder))


def test_three_tomograms_are_opened_once_and_get_every_map_but_no_alignment_run(scan, sample):
    opened = scan.of(OpenTomogram)
    first = opened[0].run_uid
    assert [str(action.key) for action in opened] == [f"{first}-{element}" for element in ELEMENTS]
    assert {action.measurement for action in opened} == {"line_integral"}
    assert [action.sample for action in opened] == ["chip Cu", "chip Fe", "chip Ni"]
    assert len(scan.of(AddRun)) == 3 * len(sample.angles)  # the first run opens, and one angle is taken twice
    assert len(scan.of(EndRun)) == 3 * (len(sample.angles) + 1)
    ignored = [run for run in scan.assembler.counts.recent_runs if run.state == "ignored"]
    assert len(ignored) == 3
    assert "1D_FLY_PANDA" in ignored[0].reason


def test_maps_are_the_line_integrals_and_the_redone_angle_replaces_the_first(scan, sample):
    withdrawn = {(str(action.key), action.run_uid) for action in scan.of(WithdrawRun)}
    assert len(withdrawn) == 3
    assert len({uid for _, uid in withdrawn}) == 1
    for element, (key, maps) in zip(ELEMENTS, scan.maps().items(), strict=True):
        valid = sorted((maps[uid] for uid in maps if (key, uid) not in withdrawn), key=lambda pair: pair[0])
        np.testing.assert_allclose([angle for angle, _ in valid], sample.angles)
        np.testing.assert_allclose(np.stack([image for _, image in valid]), sample.maps[element], rtol=1e-4, atol=1e-5)


def test_columns_taken_backwards_come_out_the_same(scan, sample, RE, rules_of_profile, tmp_path):
    documents: list[tuple[str, dict[str, Any]]] = []
    plan = hxn_tomography(sample, tmp_path, redone=None, backwards=True)
    RE(plan, lambda name, document: documents.append((name, document)))
    maps = Scan(documents, rules_of_profile("hxn-xrf", tmp_path)).maps()
    for element, found in zip(ELEMENTS, maps.values(), strict=True):
        images = [image for _, image in sorted(found.values(), key=lambda pair: pair[0])]
        np.testing.assert_allclose(np.stack(images), sample.maps[element], rtol=1e-4, atol=1e-5)


def test_the_tomograms_are_complete_when_no_run_has_come_for_a_while(scan, sample):
    assert scan.of(CloseTomogram) == []
    assert scan.assembler.expire(0.0) == []
    assert scan.assembler.expire(scan.rules.join_gap_s - 1) == []
    closed = [action for action in scan.assembler.expire(scan.rules.join_gap_s) if isinstance(action, CloseTomogram)]
    assert len(closed) == 3
    assert closed[0].counts.projections == len(sample.angles) + 1


def test_a_later_run_takes_an_earlier_one_out_by_name(scan):
    assembler = TomogramAssembler(scan.rules)
    for name, document in scan.documents:
        assembler.handle(name, document)
    bad = scan.of(AddRun)[0].run_uid
    start = {"uid": "says-so", "scan": {"type": "2D_FLY_PANDA", "sample_name": "chip"}, "withdraw_runs": [bad, "other"]}
    actions = assembler.handle("start", start)
    assert actions == [WithdrawRun(action.key, bad) for action in scan.of(OpenTomogram)]
    assert assembler.handle("start", {**start, "uid": "again"}) == []


def test_columns_are_as_wide_as_the_first_maps_also_where_the_range_was_not_stretched():
    """A scan over the same range at every angle sees more of the sample in as many columns when it is turned."""
    angle = 60.0
    narrow = np.cos(np.deg2rad(angle))
    start = {"uid": "1", "shape": [41, 1], "scan": {"scan_input": [-2, 2, 41, 0, 0, 1], "fast_axis": {}}}
    start["scan"]["fast_axis"] = {"motor_name": "zpssx"}
    rules = DocumentRules(
        rotation="th",
        angle_from="baseline",
        join_by=("sample",),
        maps=MapRules(elements=("Cu",), range_key="scan.scan_input"),
    )
    assembler = TomogramAssembler(rules)
    position = np.linspace(-20, 20, 41)
    across = {0.0: position, angle: position * narrow}
    found = {}
    for uid, (theta, where) in enumerate(across.items(), start=1):
        bump = np.exp(-((where - 3.0) ** 2) / 8)
        documents = [
            ("start", {**start, "uid": str(uid), "sample": "a"}),
            ("descriptor", {"uid": f"b{uid}", "run_start": str(uid), "name": "baseline", "data_keys": {"th": {}}}),
            ("event", {"descriptor": f"b{uid}", "seq_num": 1, "time": 1.0, "data": {"th": theta}}),
            (
                "descriptor",
                {"uid": f"p{uid}", "run_start": str(uid), "name": "primary", "data_keys": {"Cu": {"shape": [41]}}},
            ),
            ("event", {"descriptor": f"p{uid}", "seq_num": 1, "time": 2.0, "data": {"Cu": bump}}),
        ]
        for name, document in documents:
            for action in assembler.handle(name, document):
                if isinstance(action, ReadFrames):
                    (frame,) = frames_of(action, FrameFiles([]))
                    found[theta] = frame.image[0]
    np.testing.assert_allclose(found[0.0], np.exp(-((position - 3.0) ** 2) / 8), atol=1e-6)
    inside = np.abs(position) < 20 * narrow
    np.testing.assert_allclose(found[angle][inside], found[0.0][inside], atol=0.01)
