"""Deaths of workers over a tomogram: which are its fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pfitre_service.model import TomogramKey
from pfitre_service.service.worker.attempts import MOST_ALIKE, MOST_IN_ALL, Attempts

KEY, OTHER = TomogramKey("scan-1"), TomogramKey("scan-2")


@pytest.fixture
def note(tmp_path):
    return tmp_path / "folder" / "worker.json"


def died(note, *turns):
    """A worker that begins these turns, (tomogram, place), and is killed in the last."""
    worker = Attempts(note)
    for key, place in turns:
        worker.begin(key, place)


def test_a_tomogram_that_kills_at_one_place_is_given_up_after_three_times(note):
    for times in range(MOST_ALIKE):
        assert Attempts(note).verdict(KEY) is None, times
        died(note, (OTHER, "5 of 9"), (KEY, "300 of 300, converging, step 4"))
    after = Attempts(note)
    assert "died 3 times in a row over it, the last time at 300 of 300, converging, step 4" in after.verdict(KEY)
    assert after.verdict(OTHER) is None


def test_deaths_at_other_places_are_somebody_else_s_doing_until_there_are_many(note):
    for times in range(MOST_IN_ALL):
        assert Attempts(note).verdict(KEY) is None, times
        died(note, (KEY, f"step {times}"))
    assert f"died {MOST_IN_ALL} times over it" in Attempts(note).verdict(KEY)


def test_an_end_in_order_and_a_rest_are_no_deaths(note):
    for _ in range(5):
        worker = Attempts(note)
        worker.begin(KEY, "step 1")
        worker.rest()
    assert Attempts(note).verdict(KEY) is None


def test_a_tomogram_that_comes_to_its_end_is_forgotten(note):
    for _ in range(MOST_ALIKE):
        died(note, (KEY, "step 1"))
    worker = Attempts(note)
    assert worker.verdict(KEY)
    worker.forget(KEY)
    assert Attempts(note).verdict(KEY) is None


def test_what_a_killed_process_was_at_is_in_the_file(note):
    code = (
        "import os, signal; from pathlib import Path; from pfitre_service.model import TomogramKey;"
        "from pfitre_service.service.worker.attempts import Attempts;"
        f"Attempts(Path({str(note)!r})).begin(TomogramKey('scan-1'), 'step 7'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(MOST_ALIKE):
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert "at step 7" in Attempts(note).verdict(KEY)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"at": 3, "deaths": {}}', '{"at": null, "deaths": {"a": 1}}', "\x00"]
)
def test_a_file_that_is_none_is_begun_anew_and_said(note, text, caplog):
    note.parent.mkdir()
    note.write_text(text)
    worker = Attempts(note)
    assert worker.verdict(KEY) is None
    assert "cannot be read and is begun anew" in caplog.text
    worker.begin(KEY, "step 1")
    assert json.loads(note.read_text())["at"] == ["scan-1", "step 1"]


def test_a_disk_that_takes_nothing_does_not_stop_the_worker_and_is_said_once(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    worker = Attempts(tmp_path / "file" / "worker.json")
    worker.begin(KEY, "step 1")
    worker.begin(KEY, "step 2")
    assert caplog.text.count("could not be noted") == 1
    assert not Path(tmp_path / "file" / "worker.json").exists()
