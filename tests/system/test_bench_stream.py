"""`pfitre bench stream` with a handful of frames: a whole service, a real publisher, both ways of frames."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

FEW = ["--rate", "50", "--shape", "32x48", "--seconds", "0.6", "--json"]


def bench(*arguments, folder):
    command = [sys.executable, "-m", "pfitre_service", "bench", "stream", *arguments, "--folder", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("way", [[], ["--file"]], ids=["in documents", "in a file"])
def test_every_frame_that_was_sent_is_stored_in_its_place(way, tmp_path):
    done = bench(*way, *FEW, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["sent"], result["stored"]) == (30, 30)
    assert [result[name] for name in ("lost", "refused", "unreadable", "wrong")] == [0, 0, 0, 0]
    assert result["file"] is bool(way)
    assert result["shape"] == [32, 48]
    lag = result["lag_seconds"]
    assert 0 < lag["median"] <= lag["p95"] <= lag["max"]
    assert {"publisher", "receive", "ingest", "tiled", "worker"} <= set(result["cpu_ms_per_frame"])
    assert result["bare_write"]["megabytes_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_shape_that_is_none_is_refused_in_words(tmp_path):
    done = bench("--shape", "32", folder=tmp_path)
    assert done.returncode != 0
    assert "--shape takes rows and columns" in done.stderr
