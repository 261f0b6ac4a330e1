"""The demo's parts without a service: what can be shown, what is counted, what is said in the end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pfitre_service.config import load_settings
from pfitre_service.demo.shown_scans import HXN_DOCUMENTS, SHOWN, choose_scan
from pfitre_service.demo.summary import sentences
from pfitre_service.demo.watch import Watch
from pfitre_service.errors import InputError, ServiceError
from pfitre_service.model import TomogramKey
from pfitre_service.twin.beamlines.hxn import hxn_tomography
from pfitre_service.twin.beamlines.raster_sample import raster_sample

HXN = load_settings(None, {"documents": HXN_DOCUMENTS}).documents


def test_hxn_is_read_as_its_profile_says_but_ends_sooner():
    profile = load_settings(Path(__file__).parents[3] / "profiles" / "hxn-xrf").documents
    assert dataclasses.replace(HXN, roots=profile.roots, join_gap_s=profile.join_gap_s) == profile
    assert HXN.join_gap_s < 10


@pytest.mark.parametrize("name", SHOWN)
def test_every_scan_knows_its_tomograms_and_settings_that_read_it(name, tmp_path):
    scan = choose_scan(name, exposure_s=0.0, folder=tmp_path)
    rules = load_settings(None, {"documents": scan.documents}).documents
    assert tuple(scan.truths) == (rules.maps.elements or ("",))
    assert rules.roots in ((), (str(tmp_path),))
    assert scan.projections > 10
    assert scan.description


def test_an_unknown_scan_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="no scan 'chop'; choose one of cu23, chip, particle, epics, hxn"):
        choose_scan("chop", exposure_s=0.0, folder=tmp_path)


def test_projections_of_many_runs_are_counted_and_alignment_is_not(RE, tmp_path):
    watch, starts = Watch(HXN, ("Cu", "Fe")), []
    with pytest.raises(ServiceError, match="opened no run"):
        _ = watch.keys
    RE.subscribe(watch.on_document)
    RE.subscribe(lambda name, document: starts.append(document), "start")
    RE(hxn_tomography(raster_sample(angles=6), tmp_path, redone=2))
    assert watch.sent == 7
    assert watch.second_projection_at is not None
    assert watch.second_projection_at < watch.last_projection_at
    first = next(start["uid"] for start in starts if start["scan"]["type"] == "2D_FLY_PANDA")
    assert watch.keys == {"Cu": TomogramKey(f"{first}-Cu"), "Fe": TomogramKey(f"{first}-Fe")}


def told(**more: Any) -> dict[str, Any]:
    tomogram = {
        "status": "final",
        "reason": "all used",
        "seconds_to_first_volume": 1.0,
        "seconds_after_last_frame": 2.0,
        "heldout_error": 0.1,
        "heldout_error_physics": 0.2,
        "sentence": "Angles all round.",
        "picture": "x.png",
    }
    return tomogram | more


def test_each_tomogram_has_its_sentences_and_the_truth_is_told_where_it_is_known():
    single = sentences(told())
    assert single[0] == "final: all used"
    assert single[1] == "first volume 1.0 s after the second projection, final volume 2.0 s after the last one"
    assert not any("truth" in line for line in single)
    several = sentences({"tomograms": [told(name="Cu", psnr_result=20.0, psnr_physics=18.0), told(name="Fe")]})
    assert [line for line in several if ": all used" in line] == [
        "Cu final: all used",
        "Fe final: all used",
    ]
    assert sum("20.0 dB (physics alone 18.0 dB)" in line for line in several) == 1


def test_no_volume_during_the_scan_is_no_number():
    assert sentences(told(seconds_to_first_volume=None))[1] == "final volume 2.0 s after the last one"
