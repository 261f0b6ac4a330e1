"""A stored scan turned into documents is understood as the scan that it was."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import event_model
import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.ingest import (
    AddFrames,
    AddReferences,
    CloseTomogram,
    DocumentRules,
    OpenTomogram,
    StoredScan,
    TomogramAssembler,
    documents_of_scan,
)

SCAN = StoredScan(
    projections=np.arange(60, dtype="u2").reshape(5, 3, 4),
    angles=np.array([0.0, 10, 20, 30, 40]),
    flats=np.full((2, 3, 4), 7, "u2"),
    darks=np.full((1, 3, 4), 3, "u2"),
    measurement="transmission",
    pixel_size_nm=12.5,
    source="a scan",
)
RULES = [
    DocumentRules(),
    DocumentRules(rotation="theta", image="cam", angle_unit="radians", projection_streams=("tomo",), dark_streams=()),
]


@pytest.mark.parametrize("rules", RULES)
def test_the_rules_of_a_profile_understand_it(rules):
    assembler = TomogramAssembler(rules)
    actions = [a for name, doc in documents_of_scan(SCAN, rules, frame_s=0.5) for a in assembler.handle(name, doc)]
    opened = next(action for action in actions if isinstance(action, OpenTomogram))
    assert (opened.measurement, opened.expected_frames, opened.pixel_size_nm) == ("transmission", 5, 12.5)
    frames = [frame for action in actions if isinstance(action, AddFrames) for frame in action.frames]
    np.testing.assert_array_equal(np.stack([frame.image for frame in frames]), SCAN.projections)
    np.testing.assert_allclose([frame.angle for frame in frames], SCAN.angles)
    np.testing.assert_allclose(np.diff([frame.time for frame in frames]), 0.5)
    references = [action.role for action in actions if isinstance(action, AddReferences) for _ in action.frames]
    assert references == (["dark"] if rules.dark_streams else []) + ["flat", "flat"]
    (closed,) = [action for action in actions if isinstance(action, CloseTomogram)]
    assert (closed.exit_status, closed.counts.refused, closed.counts.missing) == ("success", {}, {})


def test_they_are_documents_by_bluesky_s_schema_in_the_order_of_their_times():
    documents = [*documents_of_scan(dataclasses.replace(SCAN, flats=None), RULES[0], frame_s=0.5)]
    for name, document in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(event_model.sanitize_doc(document))
    assert all(earlier[1]["time"] <= later[1]["time"] for earlier, later in pairwise(documents))


def test_a_profile_that_reads_no_angles_in_events_is_named():
    rules = DocumentRules(angle_from="file", angle_dataset="/angles")
    with pytest.raises(InputError, match="angle_from = 'file'"):
        list(documents_of_scan(SCAN, rules, frame_s=0.5))
