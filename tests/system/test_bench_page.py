"""`pfitre bench page` in small: a real browser, two services, scans that go on."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_every_figure_is_measured(tmp_path):
    few = [
        "--size",
        "64",
        "--revisions",
        "30",
        "--pages",
        "2",
        "--live-size",
        "48",
        "--seconds",
        "2",
        "--folder",
        str(tmp_path),
    ]
    command = [sys.executable, "-m", "pfitre_service", "bench", "page", *few, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["first_picture_seconds"] > 0
    assert result["revisions_drawn"] >= 30
    delay = result["delay_seconds"]
    assert 0 < delay["median"] <= delay["p95"] <= delay["max"]
    assert sum(result["memory_before"].values()) > 1
    assert min(result["steps"].values()) >= 4
    seconds = result["step_seconds"]
    assert result["slowed_by"] == pytest.approx(seconds["with_pages"] / seconds["without_pages"] - 1, abs=1e-4)
    assert list(tmp_path.iterdir()) == []
