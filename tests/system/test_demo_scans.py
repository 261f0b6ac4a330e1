"""`pfitre demo` on beamlines that are more than a process: what a person types, and what comes of it."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

pytestmark = pytest.mark.slow


def demo(pfitre, scan, folder):
    result = pfitre("demo", "--scan", scan, "--json", "--exposure", "0.05", "--output", str(folder), timeout_s=290)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return json.loads(result.stdout), result.stderr


def test_epics_ends_with_a_volume_that_is_nearer_to_the_truth_than_physics_alone(pfitre, tmp_path):
    summary, said = demo(pfitre, "epics", tmp_path)
    assert summary["status"] == "final"
    assert summary["frames_sent"] == summary["frames_stored"] == summary["frames_used"] == 43
    assert summary["psnr_result"] > summary["psnr_physics"] + 1
    assert "EPICS_CA_AUTO_ADDR_LIST=NO caproto-get pfitre:" in said
    assert len(list((tmp_path / "detector").glob("*.h5"))) == 1
    assert (tmp_path / "epics.png").stat().st_size > 10_000


def test_hxn_ends_with_a_tomogram_for_each_element(pfitre, tmp_path):
    summary, said = demo(pfitre, "hxn", tmp_path)
    assert (summary["status"], summary["frames_sent"]) == ("final", 21)
    assert [tomogram["name"] for tomogram in summary["tomograms"]] == ["Cu", "Fe", "Ni"]
    for tomogram in summary["tomograms"]:
        assert tomogram["status"] == "final"
        assert (tomogram["frames_stored"], tomogram["frames_used"]) == (21, 20)  # one angle was taken again
        assert tomogram["psnr_result"] > tomogram["psnr_physics"]
        assert (tmp_path / f"hxn-{tomogram['name']}.png").stat().st_size > 10_000
        assert f"{tomogram['name']} final" in said


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_nothing_is_left_of_a_demo_that_is_ended_in_mid_scan(start_pfitre, until, tmp_path, how, code):
    demo = start_pfitre("demo", "--scan", "epics", "--output", str(tmp_path))
    until(lambda: re.search(r"[1-9]\d* received", demo.log.read_text()), "the first projection", 120)
    if how == signal.SIGINT:
        os.killpg(demo.process.pid, how)  # Ctrl-C reaches the whole group, the IOC too
    else:
        demo.process.send_signal(how)
    assert demo.process.wait(40) == code
    assert demo.left_over(grace_s=20.0) == []
