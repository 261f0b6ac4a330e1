"""A disk that fails in mid-scan, and starts that cannot succeed: each says in one line what is wrong."""

from __future__ import annotations

import json
import socket

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory, start_service):
    with start_service(tmp_path_factory.mktemp("disk")) as service:
        yield service


def test_a_disk_that_refuses_in_mid_scan_costs_nothing_once_it_is_back(service, documents, until):
    scan = documents()
    arrays, aside = service.settings.data_dir / "data", service.settings.data_dir / "aside"
    service.publish(scan.start(), scan.descriptor(), *(scan.event(number) for number in range(1, 9)))
    until(lambda: service.revision(scan.key) >= 2, "a volume before the accident")
    arrays.rename(aside)
    arrays.write_text("no place for arrays any more")
    try:
        service.publish(*(scan.event(number) for number in range(9, 27)), scan.stop(26))
        until(lambda: service.health("ingest").state == "degraded", "a word about frames that wait")
        report = service.health("ingest")
        assert "cannot be written" in report.reason
        assert str(service.settings.data_dir) in report.reason
        assert report.details["store"]["waiting_frames"] > 0
        assert report.details["store"]["refused_frames"] == 0
    finally:
        arrays.unlink()
        aside.rename(arrays)
    assert service.ended(scan.key)["frames_used"] == 26
    until(lambda: service.health("ingest").state == "idle", "peace")
    until(lambda: service.health("worker").state == "final", "peace in the worker")
    following = documents()
    service.publish(*following.whole(6))
    assert service.ended(following.key)["frames_used"] == 6


def test_a_disk_that_refuses_results_alone_delays_them(service, documents, until):
    scan = documents()
    service.publish(*scan.whole()[:-1])
    until(lambda: service.revision(scan.key) >= 2, "a volume")
    folder = service.settings.data_dir / "data" / "tomograms" / scan.uid / "volume"
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("no place for a volume any more")
    try:
        service.publish(scan.stop(26))
        until(lambda: service.health("worker").state == "waiting", "a word about the catalogue")
    finally:
        folder.unlink()
        aside.rename(folder)
    assert service.ended(scan.key)["frames_used"] == 26


def test_a_disk_that_is_nearly_full_is_told_of_before_it_is_full(tmp_path, start_service):
    with start_service(tmp_path, {"tiled": {"low_disk_mib": 1 << 30}}) as service:
        report = service.health("ingest")
        assert report.state == "degraded"
        assert f"MiB are left on the disk of {service.settings.data_dir}" in report.reason


def explained(result):
    """The one line that says why, after the log's lines."""
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_a_data_folder_that_cannot_be_made_ends_the_start_with_a_line(pfitre, own_settings, arguments_for):
    result = pfitre("serve", "--data-dir", "/proc/pfitre", *arguments_for(own_settings))
    assert result.returncode == 3
    assert explained(result).startswith(
        "pfitre: receive cannot start: ServiceError: the spool's folder /proc/pfitre/spool cannot be used"
    )


def test_a_data_folder_in_use_by_another_service_is_refused(pfitre, service, own_settings, arguments_for):
    result = pfitre("serve", "--data-dir", str(service.settings.data_dir), *arguments_for(own_settings))
    assert result.returncode == 3
    by_either = ("another server works on the data folder", "has a writer already: does another service run there?")
    assert any(words in explained(result) for words in by_either)


@pytest.mark.parametrize(
    ("setting", "blamed"),
    [
        ("tiled.port", "tiled cannot start"),
        ("proxy.publish", "receive cannot start"),
        ("health.supervisor", "health endpoint of 'supervisor' cannot listen"),
        ("health.worker", "worker cannot start"),
    ],
)
def test_a_port_in_use_is_named(pfitre, own_settings, arguments_for, tmp_path, setting, blamed):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        value = str(port) if setting == "tiled.port" else f"127.0.0.1:{port}"
        arguments = [*arguments_for(own_settings), f"--set={setting}={value}"]
        result = pfitre("serve", "--data-dir", str(tmp_path / "data"), *arguments)
    assert result.returncode == 3
    assert blamed in explained(result)
    assert str(port) in explained(result)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--set", "tiled.prot=1"], {}, "tiled.prot"),
        (["--set", "tiled.port=many"], {}, "tiled.port"),
        (["--set", "nonsense"], {}, "--set takes section.name=value"),
        (["--set", "recon.rho=-1"], {}, "recon: Value error, rho must be a positive number"),
        (["--profile", "/nowhere"], {}, "no profile at /nowhere"),
        ([], {"PFITRE_TILED__PROT": "1"}, "PFITRE_TILED__PROT"),
        (["--set", "proxy.subscribe=127.0.0.1:9"], {}, "set both to the same"),
        (["--set", "proxy.publish=here"], {}, "expected a 0MQ address"),
        (["--epics", "two words"], {}, "epics.prefix: String should match pattern"),
        (
            ["--epics", "a:", "--set", 'epics.interfaces=["eth0"]'],
            {},
            "epics.interfaces must be addresses of this machine",
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_in_one_line(pfitre, tmp_path, arguments, environment, said):
    result = pfitre("serve", "--data-dir", str(tmp_path), *arguments, **environment)
    assert result.returncode in (1, 3)
    assert said in explained(result)
    assert result.stdout == ""


def test_status_without_a_service_says_so(pfitre, own_settings, arguments_for):
    result = pfitre("status", "--json", *arguments_for(own_settings))
    assert result.returncode == 3
    assert explained(result).startswith("pfitre: nothing answers at ")
    assert result.stdout == ""


def test_status_says_what_runs_in_words_and_in_json(pfitre, service, arguments_for):
    arguments = arguments_for(service.settings)
    result = pfitre("status", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["name"], report["state"], report["ready"]) == ("supervisor", "ok", True)
    assert list(report["details"]["processes"]) == ["receive", "tiled", "ingest", "worker"]
    text = pfitre("status", *arguments, COLUMNS="160")
    assert text.returncode == 0
    assert "supervisor is ok" in text.stdout
    assert all(name in text.stdout for name in ("receive", "tiled", "ingest", "worker"))
    one = pfitre("status", "--process", "worker", *arguments)
    assert one.returncode == 0
    assert one.stdout.startswith("worker is ")
    unknown = pfitre("status", "--process", "viewer", *arguments)
    assert unknown.returncode == 1
    assert "choose one of supervisor, tiled, receive, ingest, worker" in unknown.stderr
