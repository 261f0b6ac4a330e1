from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from pfitre_service.addresses import free_ports, parse_address
from pfitre_service.errors import ServiceError, SettingsError
from pfitre_service.supervision.health import Health, HealthReport, HealthServer, fetch_health


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health("worker", heartbeat_limit_s=5.0, clock=clock)


@pytest.fixture
def served(health: Health) -> Iterator[HealthServer]:
    with HealthServer("127.0.0.1:0", health) as server:
        yield server


def status_of(server: HealthServer, path: str = "/health") -> int:
    connection = http.client.HTTPConnection(server.address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def raw_answer(server: HealthServer, request: bytes) -> bytes:
    with socket.create_connection(parse_address(server.address), timeout=5) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(4096), b""))


def test_a_new_process_is_alive_but_not_ready(health: Health) -> None:
    report = health.snapshot()
    assert (report.name, report.state, report.alive, report.ready) == ("worker", "starting", True, False)
    assert not health.was_ready


@pytest.mark.parametrize("state", ["idle", "waiting", "receiving", "iterating", "final"])
def test_a_process_past_its_start_is_ready_for_as_long_as_its_heart_beats(
    health: Health, clock: Clock, state: str
) -> None:
    health.set_state(state)
    assert health.snapshot().ready
    clock.now += 5.5
    report = health.snapshot()
    assert (report.alive, report.ready, report.heartbeat_age_s) == (False, False, 5.5)
    health.beat()
    assert health.snapshot().ready


def test_a_failed_process_says_why_and_remembers_that_it_was_ready(health: Health) -> None:
    health.set_state("idle")
    health.set_state("failed", "the disk is full")
    report = health.snapshot()
    assert (report.alive, report.ready, report.reason) == (False, False, "the disk is full")
    assert health.was_ready


def test_details_are_merged_and_a_snapshot_does_not_change_any_more(health: Health) -> None:
    health.update({"frames": 1, "dropped": 0})
    before = health.snapshot()
    health.update({"frames": 2})
    assert (dict(before.details), dict(health.snapshot().details)) == (
        {"frames": 1, "dropped": 0},
        {"frames": 2, "dropped": 0},
    )


def test_numpy_numbers_and_nan_become_strict_json(health: Health) -> None:
    health.update({"a": np.float32(0.5), "b": np.int64(3), "c": float("nan"), "d": {"e": (1, float("inf"))}})
    assert json.loads(health.snapshot().to_json())["details"] == {"a": 0.5, "b": 3, "c": None, "d": {"e": [1, None]}}


def test_a_value_without_a_json_form_is_refused_where_it_is_set(health: Health) -> None:
    with pytest.raises(TypeError, match=r"health details\.volume cannot be stored: a object"):
        health.update({"volume": object()})


def test_a_report_survives_json(health: Health) -> None:
    health.set_state("iterating", "run 12ab")
    health.update({"iterations": 7})
    report = health.snapshot()
    assert HealthReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("text", ["", "[]", "{}", "garbage", '{"name": "x", "pid": "y"}', "null"])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ServiceError, match="expected a health report"):
        HealthReport.from_json(text)


def test_the_endpoint_answers_200_while_alive_and_503_when_stale_or_failed(
    served: HealthServer, health: Health, clock: Clock
) -> None:
    assert status_of(served) == 200
    clock.now += 6
    assert status_of(served) == 503
    health.beat()
    assert status_of(served) == 200
    health.set_state("failed", "no more")
    assert status_of(served) == 503


def test_fetched_health_is_what_the_process_says_even_when_it_failed(served: HealthServer, health: Health) -> None:
    health.set_state("failed", "no more")
    assert fetch_health(served.address) == health.snapshot()


def test_only_health_is_served_and_nothing_is_printed_about_requests(
    served: HealthServer, capfd: pytest.CaptureFixture[str]
) -> None:
    assert status_of(served, "/") == 404
    assert status_of(served, "/../etc/passwd") == 404
    assert status_of(served, "/health?x=1") == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "garbage", [b"", b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"POST /health HTTP/1.1\r\n\r\n", b"\xff" * 100_000]
)
def test_garbage_does_not_disturb_the_endpoint(
    served: HealthServer, garbage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        assert b"200 OK" not in raw_answer(served, garbage)
    except OSError:  # a connection that was reset, or is gone already
        assert len(garbage) > 8192, "the server may hang up on what is too long only"
    assert status_of(served) == 200
    assert capfd.readouterr() == ("", "")


def test_a_client_that_dribbles_its_request_neither_blocks_others_nor_stays_long(served: HealthServer) -> None:
    with socket.create_connection(parse_address(served.address), timeout=5) as slow:
        slow.sendall(b"GET /hea")
        assert status_of(served) == 200
        begun = time.monotonic()
        while slow.recv(4096):
            """Until the server hangs up; a socket timeout would fail the test."""
        assert time.monotonic() - begun < 3


def test_closing_frees_the_port_and_ends_the_threads(health: Health) -> None:
    threads = threading.active_count()
    with HealthServer("127.0.0.1:0", health) as server:
        address = server.address
        assert status_of(server) == 200
    server.close()
    assert threading.active_count() == threads
    assert fetch_health(address) is None
    with HealthServer(address, health):
        assert fetch_health(address) is not None


def test_an_address_in_use_is_named_with_what_to_do(served: HealthServer) -> None:
    with pytest.raises(ServiceError, match=rf"cannot listen on {served.address}.*set another address"):
        HealthServer(served.address, Health("ingest"))


def test_nobody_there_is_none_and_something_else_there_is_an_error() -> None:
    assert fetch_health(f"127.0.0.1:{free_ports(1)[0]}") is None
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ServiceError, match=r"no health report within 0\.2 s"):
            fetch_health(address, timeout_s=0.2)


def test_a_process_bound_to_every_address_is_asked_on_loopback(health: Health) -> None:
    with HealthServer("127.0.0.1:0", health) as server:
        port = parse_address(server.address)[1]
        assert fetch_health(f"0.0.0.0:{port}") is not None


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", ":80", "127.0.0.1:http", "127.0.0.1:70000", "a:-1"])
def test_an_address_that_cannot_be_read_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="host:port"):
        parse_address(address)


def test_addresses_are_read_with_either_kind_of_host() -> None:
    assert parse_address("127.0.0.1:5568") == ("127.0.0.1", 5568)
    assert parse_address("[::1]:5568") == ("::1", 5568)


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(8))) == 8
