"""The service in pieces: each process by itself, as containers run them, and the callback in a RunEngine's process."""

from __future__ import annotations

import json
import secrets
import signal
import threading

import pytest

from pfitre_service.model import TomogramKey
from pfitre_service.service.live_tomography import live_tomography
from pfitre_service.supervision.health import fetch_health

pytestmark = pytest.mark.slow


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "api_key"
    path.write_text(secrets.token_hex(32) + "\n")
    return path


@pytest.fixture
def process_alone(start_pfitre, own_settings, key_file, tmp_path, until):
    """Starts `pfitre process NAME` with settings in the environment, and waits until it is ready."""
    url = f"http://127.0.0.1:{own_settings.tiled.port}"
    elsewhere = {"PFITRE_TILED__URI": url, "PFITRE_DATA_DIR": str(tmp_path / "not-here")}
    environments = {
        "tiled": {"PFITRE_TILED__PORT": str(own_settings.tiled.port), "PFITRE_DATA_DIR": str(tmp_path / "data")},
        "receive": {
            "PFITRE_PROXY__PUBLISH": own_settings.proxy.publish,
            "PFITRE_PROXY__SUBSCRIBE": own_settings.proxy.subscribe,
            "PFITRE_DATA_DIR": str(tmp_path / "not-here"),
        },
        "ingest": elsewhere,
        "worker": {**elsewhere, "PFITRE_WORKER__PUBLISH_INTERVAL_S": "0.1"},
    }

    def start(name, **environment):
        address = getattr(own_settings.health, name)
        common = {"PFITRE_API_KEY_FILE": str(key_file), f"PFITRE_HEALTH__{name.upper()}": address}
        return start_pfitre("process", name, **{**common, **environments[name], **environment})

    return start


def is_ready(address):
    report = fetch_health(address)
    return report is not None and report.ready


def test_processes_started_one_by_one_work_together(process_alone, own_settings, key_file, connect, documents, until):
    started = {}
    for name in ("worker", "ingest", "tiled", "receive"):  # containers come up in any order
        started[name] = process_alone(name)
    for name in started:
        until(lambda name=name: is_ready(getattr(own_settings.health, name)), f"the start of {name}")
    settings = own_settings.model_copy(update={"api_key_file": key_file})
    with connect(settings) as service:
        scan = documents()
        service.publish(*scan.whole())
        assert service.ended(scan.key)["frames_used"] == 26
    for name, number in (("worker", signal.SIGTERM), ("ingest", signal.SIGINT), ("receive", signal.SIGTERM)):
        started[name].process.send_signal(number)
        assert started[name].process.wait(10) == 0, started[name].log.read_text()
        assert started[name].left_over() == []
    assert not any("Traceback" in command.log.read_text() for command in started.values())


def test_a_process_with_the_wrong_key_says_so_and_ends(process_alone, own_settings, tmp_path, until):
    process_alone("tiled")
    until(lambda: is_ready(own_settings.health.tiled), "the start of tiled")
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    worker = process_alone("worker", PFITRE_API_KEY_FILE=str(wrong))
    assert worker.process.wait(60) == 3
    log = worker.log.read_text()
    assert "writing needs the server's API key" in log
    assert "0" * 64 not in log
    assert "Traceback" not in log


def test_a_process_that_is_none_is_named(pfitre):
    result = pfitre("process", "viewer")
    assert result.returncode == 1
    assert (
        result.stderr == "pfitre: there is no process 'viewer'; choose one of receive, tiled, ingest, worker, epics\n"
    )


def test_a_run_engine_s_own_process_can_feed_the_service(service, RE, small_scan):
    with live_tomography(settings=service.settings) as live:
        RE.subscribe(live)
        (uid,) = RE(small_scan().plan())
        assert live.flush(30)
        metadata = service.ended(TomogramKey(uid))
    assert metadata["frames_used"] == 26
    assert not [
        thread.name for thread in threading.enumerate() if thread.name in ("pfitre-live-callback", "pfitre-store")
    ]


def test_leaving_the_block_delivers_what_waits(service, RE, small_scan):
    with live_tomography(settings=service.settings) as live:
        RE.subscribe(live)
        (uid,) = RE(small_scan().plan())
    assert service.stored(TomogramKey(uid)) == 26
    assert service.ended(TomogramKey(uid))["frames_used"] == 26


def test_the_demo_ends_with_one_json_object(pfitre, tmp_path):
    result = pfitre("demo", "--json", "--exposure", "0.02", "--output", str(tmp_path), timeout_s=200)
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["status"], summary["volume_shape"]) == ("final", [84, 150, 150])
    assert summary["frames_sent"] == summary["frames_stored"] == summary["frames_used"] == 51
    assert summary["heldout_error"] < summary["heldout_error_physics"]
    assert (tmp_path / "cu23.png").stat().st_size > 10_000
