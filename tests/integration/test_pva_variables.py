"""The process variables by themselves: a real server and a real client, on loopback, without a catalogue."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import threading

import numpy as np
import pytest
from p4p.client.thread import Context, RemoteError

from pfitre_service.epics.pva_server import Variables, serving
from pfitre_service.epics.pva_values import Alarm, Severity, Slice
from pfitre_service.errors import ServiceError

LOOPBACK = {"interfaces": ["127.0.0.1"], "port": 0, "search_port": 0, "beacons": False}
IMAGE = np.arange(6, dtype=np.float32).reshape(2, 3)


@contextlib.contextmanager
def connected(port: int):
    conf = {
        "EPICS_PVA_NAME_SERVERS": f"127.0.0.1:{port}",
        "EPICS_PVA_ADDR_LIST": "",
        "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_PVA_BROADCAST_PORT": str(port),
    }
    with Context("pva", conf=conf, useenv=False) as context:
        yield context


@pytest.fixture
def variables():
    return Variables("unit:")


@pytest.fixture
def client(variables):
    with serving(variables, **LOOPBACK) as port, connected(port) as context:
        yield context


@contextlib.contextmanager
def putting(client, name, value):
    """A put on its way; gives the list that its outcome will stand in once the block has ended."""
    outcome = []

    def put():
        try:
            client.put(f"unit:{name}", value, timeout=10)
            outcome.append("done")
        except RemoteError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=put)
    thread.start()
    yield outcome
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(("name", "value", "axis"), [("Y", 7, "y"), ("Tomogram", "run-1", None)])
def test_a_put_waits_until_it_is_accepted(variables, client, name, value, axis):
    with putting(client, name, value) as outcome:
        (request,) = variables.requests(10)
        assert (request.name, request.value, request.axis) == (name, value, axis)
        assert outcome == []
        request.accept()
    assert outcome == ["done"]


def test_a_put_that_is_refused_gives_the_reason_and_leaves_the_value(variables, client):
    variables.set_index("z", 4, 10)
    with putting(client, "Z", 99) as outcome:
        (request,) = variables.requests(10)
        request.refuse("Z must be 0 to 9")
    assert outcome == ["Z must be 0 to 9"]
    assert client.get("unit:Z") == 4


def test_puts_that_came_together_are_given_together_and_none_is_waited_for_long(variables, client):
    assert variables.requests(0) == []
    with putting(client, "Z", 1) as first, putting(client, "X", 2) as second:
        found = []
        while len(found) < 2:
            found += variables.requests(10)
        for request in found:
            request.accept()
    assert {(request.name, request.value) for request in found} == {("Z", 1), ("X", 2)}
    assert first == second == ["done"]


def test_clients_hear_of_a_scalar_only_when_it_changes(variables, client):
    heard, known = [], threading.Semaphore(0)

    def hear(value):
        heard.append(float(value))
        known.release()

    subscription = client.monitor("unit:HeldoutError", hear)
    assert known.acquire(timeout=10)
    for value in (math.nan, math.nan, 0.5, 0.5, 0.25):
        variables.set("HeldoutError", value, Alarm())
    for _ in range(3):
        assert known.acquire(timeout=10)
    subscription.close()
    assert heard[2:] == [0.5, 0.25]
    assert all(map(math.isnan, heard[:2])), "at first with an alarm, then without"


def test_an_alarm_on_the_pictures_leaves_their_pixels(variables, client):
    variables.show(Slice(IMAGE, "run-1", "z", 3, 8, 0.0), Alarm())
    variables.alarm_pictures(Alarm(Severity.INVALID, "old"))
    shown = client.get("unit:SliceZ")
    np.testing.assert_array_equal(shown, IMAGE)
    assert (shown.raw.alarm.severity, shown.raw.alarm.message, shown.raw.uniqueId) == (3, "old", 8)
    variables.show(Slice(IMAGE + 1, "run-1", "z", 3, 9, 0.0), Alarm())
    assert client.get("unit:SliceZ").raw.alarm.severity == 0


def test_clearing_brings_the_scalars_back_to_the_start_and_keeps_the_pictures(variables, client):
    variables.show(Slice(IMAGE, "run-1", "x", 0, 8, 0.0), Alarm())
    variables.set("Revision", 8, Alarm())
    variables.clear(Alarm(Severity.INVALID, "nothing there"))
    assert client.get("unit:Revision") == 0
    assert client.get("unit:Revision").raw.alarm.message == "nothing there"
    np.testing.assert_array_equal(client.get("unit:SliceX"), IMAGE)
    assert client.get("unit:SliceX").severity == 3


def test_limits_and_words_come_with_an_index(variables, client):
    variables.set_index("x", 3, 32)
    told = client.get("unit:X").raw
    assert (told.control.limitLow, told.control.limitHigh, told.display.limitHigh) == (0, 31, 31)
    assert told.display.description == "index of the slice across x"


def search(address: str, search_port: int, timeout_s: float):
    conf = {
        "EPICS_PVA_ADDR_LIST": f"{address}:{search_port}",
        "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_BROADCAST_PORT": str(search_port),
    }
    with Context("pva", conf=conf, useenv=False) as context:
        return context.get("unit:Status", timeout=timeout_s)


def test_only_the_interfaces_that_were_named_are_served(variables):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        search_port = free.getsockname()[1]
    with serving(variables, **{**LOOPBACK, "search_port": search_port}) as port:
        assert search("127.0.0.1", search_port, 10) == "none"
        with pytest.raises(TimeoutError):
            search("127.0.0.2", search_port, 2)
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_the_environment_does_not_open_it(variables, monkeypatch):
    monkeypatch.setenv("EPICS_PVAS_INTF_ADDR_LIST", "0.0.0.0")
    monkeypatch.setenv("EPICS_PVAS_SERVER_PORT", "1")
    with serving(variables, **LOOPBACK) as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_a_port_that_is_taken_is_replaced_and_told(variables, caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken, caplog.at_level(logging.WARNING):
        wanted = taken.getsockname()[1]
        with serving(variables, **{**LOOPBACK, "port": wanted}) as port, connected(port) as client:
            assert client.get("unit:Status") == "none"
    assert port != wanted
    assert f"port {wanted} (epics.port) is taken; PV Access listens on {port} instead" in caplog.text


def test_an_address_of_another_machine_is_refused(variables):
    with (
        pytest.raises(
            ServiceError, match=r"cannot listen at 203\.0\.113\.9.*epics\.interfaces must be addresses of this"
        ),
        serving(variables, **{**LOOPBACK, "interfaces": ["203.0.113.9"]}),
    ):
        pass
