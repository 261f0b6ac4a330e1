"""A real RunEngine, bluesky's own publisher, a real proxy, and the tomogram state machine behind it."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
import zmq
from bluesky import RunEngine
from bluesky.callbacks.zmq import Publisher
from ophyd import Component, Device, Signal
from ophyd.sim import SynAxis

from pfitre_service.errors import ServiceError, SettingsError
from pfitre_service.ingest import (
    AddFrames,
    CloseTomogram,
    DocumentProxy,
    DocumentRules,
    TomogramAssembler,
    ZmqSource,
)


class Camera(Device):
    """Its image holds the angle at which it was taken."""

    image = Component(Signal, value=np.zeros((8, 12)), kind="hinted")

    def __init__(self, name: str, motor: SynAxis) -> None:
        super().__init__(name=name)
        self._motor = motor

    def trigger(self) -> Any:
        self.image.put(np.full((8, 12), self._motor.position))
        return super().trigger()


class Attack:
    """Runs code in every process that unpickles it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


class Receiver:
    """Everything that a source hands on, and what the assembler makes of it."""

    def __init__(self) -> None:
        self.assembler = TomogramAssembler(DocumentRules(rotation="theta"))
        self.actions: list[Any] = []
        self.seen: list[str] = []
        self.changed = threading.Condition()

    def handle(self, name: str, document: dict[str, Any]) -> None:
        with self.changed:
            self.seen.append(str(document.get("uid")))
            if not str(document.get("uid")).startswith("probe"):
                self.actions += self.assembler.handle(name, document)
            self.changed.notify_all()
        if document.get("uid") == "probe-raise":
            raise ZeroDivisionError("a handler that fails")

    def wait(self, condition: Callable[[], bool], timeout: float = 20.0) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, timeout)

    def closed(self) -> list[CloseTomogram]:
        return [action for action in self.actions if isinstance(action, CloseTomogram)]

    def frames(self) -> list[Any]:
        return [frame for action in self.actions if isinstance(action, AddFrames) for frame in action.frames]


@contextmanager
def in_thread(name: str, run: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,), name=name)
    thread.start()
    try:
        yield
    finally:
        began = time.monotonic()
        stop.set()
        thread.join(5)
        assert not thread.is_alive()
        assert time.monotonic() - began < 1.0, "an orderly end takes less than a second"


@pytest.fixture
def proxy() -> Iterator[DocumentProxy]:
    with DocumentProxy("127.0.0.1:0", "127.0.0.1:0") as proxy, in_thread("proxy", proxy.run):
        yield proxy


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@contextmanager
def listening(source: ZmqSource, receiver: Receiver) -> Iterator[None]:
    with in_thread("source", lambda stop: source.run(receiver.handle, stop, lambda: None)):
        yield


@contextmanager
def publishing(proxy: DocumentProxy, receiver: Receiver, **options: Any) -> Iterator[Publisher]:
    """A publisher whose messages are known to arrive: probes are sent until one came through."""
    publisher = Publisher(proxy.in_address, **options)
    try:
        probe = f"probe-{id(publisher)}"
        end = time.monotonic() + 20
        while probe not in receiver.seen and time.monotonic() < end:
            publisher("start", {"uid": probe})
            receiver.wait(lambda: probe in receiver.seen, timeout=0.02)
        assert probe in receiver.seen
        yield publisher
    finally:
        publisher.close()


@pytest.fixture
def engine() -> Iterator[RunEngine]:
    loop = asyncio.new_event_loop()
    engine = RunEngine({}, loop=loop, call_returns_result=False)
    yield engine
    loop.call_soon_threadsafe(loop.stop)
    engine._th.join(5)
    loop.close()


@pytest.fixture
def tomography() -> Callable[[int], Any]:
    theta = SynAxis(name="theta")
    camera = Camera("camera", theta)
    return lambda points: bp.scan([camera], theta, 0, points - 1, points)


def test_garbage_and_attacks_on_the_same_proxy_leave_the_next_scan_whole(proxy, receiver, engine, tomography, tmp_path):
    proof = tmp_path / "proof"
    source = ZmqSource(proxy.out_address, max_message_bytes=1 << 20)
    with listening(source, receiver), publishing(proxy, receiver) as publisher:
        send = publisher._socket.send
        send(b"nospaces")
        send(b" start \x80\x04garbage")
        send(b" start " + pickle.dumps(Attack(str(proof))))
        send(b" start " + pickle.dumps({"uid": "probe-attack", "x": Attack(str(proof))}))
        send(b" start " + pickle.dumps({"uid": "probe-large", "x": b"x" * (1 << 21)}))
        send(b" sabotage " + pickle.dumps({"uid": "probe-name"}))
        publisher._socket.send_multipart([b" start ", pickle.dumps({"uid": "probe-parts"})])
        publisher("start", {"uid": "../../etc"})
        publisher("event", {"uid": "probe-raise"})
        engine.subscribe(publisher)
        engine(tomography(5))
        assert receiver.wait(lambda: len(receiver.closed()) == 1)

    assert receiver.closed()[0].counts.projections == 5
    assert not proof.exists()
    counts = source.counts
    assert (counts.decode_failures, counts.unknown_names) == (5, 1)
    assert (counts.handler_failures, counts.foreign_values) == (1, 1)
    assert counts.bytes > 1 << 21
    assert receiver.assembler.counts.malformed == 1


def colliding_keys() -> bytes:
    """839 kB whose keys all have one hash: a dict of them takes hours to fill."""
    keys = (pickle.LONG1 + b"\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + pickle.NONE for n in range(1, 64_001))
    table = pickle.EMPTY_DICT + pickle.MARK + b"".join(keys) + pickle.SETITEMS
    return b" event \x80\x04" + table + pickle.STOP


def operations_without_end() -> bytes:
    """Ten million operations that make nothing."""
    return b" event \x80\x04" + pickle.EMPTY_DICT + (pickle.NONE + pickle.POP) * 5_000_000 + pickle.STOP


def arguments_copied_again_and_again() -> bytes:
    """306 kB with one list of 300,000 arguments, and a thousand calls that each take it."""
    arguments = pickle.MARK + pickle.NONE * 300_000 + pickle.TUPLE + pickle.BINPUT + b"\x01" + pickle.POP
    named = pickle.GLOBAL + b"some\nClass\n" + pickle.BINPUT + b"\x02" + pickle.POP
    call = pickle.BINGET + b"\x02" + pickle.BINGET + b"\x01" + pickle.REDUCE + pickle.POP
    return b" event \x80\x04" + arguments + named + call * 1000 + pickle.EMPTY_DICT + pickle.STOP


def page_without_end() -> bytes:
    """A megabyte of a million rows, each of them an event that is none."""
    page = {"descriptor": "none", "seq_num": np.zeros(1_000_000, np.uint8), "data": {}}
    return b" event_page " + pickle.dumps(page)


def test_messages_made_to_take_for_ever_cost_a_running_scan_no_frame(proxy, receiver, engine, tomography):
    source, attacks, began = (
        ZmqSource(proxy.out_address),
        [
            colliding_keys(),
            operations_without_end(),
            arguments_copied_again_and_again(),
            page_without_end(),
        ],
        time.monotonic(),
    )
    with listening(source, receiver), publishing(proxy, receiver) as publisher:

        def attack(name: str, document: dict[str, Any]) -> None:
            if name == "event" and attacks and document["seq_num"] % 5 == 0:
                publisher._socket.send(attacks.pop())

        engine.subscribe(publisher)
        engine.subscribe(attack)
        engine(tomography(25))
        assert receiver.wait(lambda: len(receiver.closed()) == 1)

    assert not attacks
    (closed,) = receiver.closed()
    assert (closed.counts.projections, closed.counts.missing) == (25, {})
    assert source.counts.decode_failures + receiver.assembler.counts.orphans + receiver.assembler.counts.malformed == 4
    assert time.monotonic() - began < 20


def test_a_prefix_picks_its_publisher_among_two(proxy, receiver):
    everything = Receiver()
    with (
        listening(ZmqSource(proxy.out_address, prefix=b"ours"), receiver),
        listening(ZmqSource(proxy.out_address), everything),
        publishing(proxy, receiver, prefix=b"ours") as ours,
        publishing(proxy, everything, prefix=b"theirs") as theirs,
    ):
        theirs("start", {"uid": "probe-theirs"})
        assert everything.wait(lambda: "probe-theirs" in everything.seen)
        ours("start", {"uid": "probe-ours"})
        assert receiver.wait(lambda: "probe-ours" in receiver.seen)
    assert "probe-theirs" not in receiver.seen
    assert all(uid.startswith("probe") for uid in receiver.seen)


def test_a_burst_larger_than_the_usual_mark_arrives_whole(proxy, receiver):
    with listening(ZmqSource(proxy.out_address), receiver), publishing(proxy, receiver) as publisher:
        publisher._socket.setsockopt(zmq.SNDHWM, 0)
        with receiver.changed:
            for number in range(800):
                publisher("event", {"uid": f"probe-burst-{number}", "data": {"image": np.zeros((16, 16))}})
        assert receiver.wait(lambda: "probe-burst-799" in receiver.seen)
    assert sum(uid.startswith("probe-burst") for uid in receiver.seen) == 800


def test_the_source_says_whether_the_proxy_is_there_and_finds_it_again(receiver):
    with DocumentProxy("127.0.0.1:0", "127.0.0.1:0") as proxy:
        inside, outside = proxy.in_address, proxy.out_address
    source = ZmqSource(outside)
    beat = threading.Condition()

    def idle() -> None:
        with beat:
            beat.notify_all()

    def reaches(connected: bool) -> bool:
        with beat:
            return beat.wait_for(lambda: source.counts.connected is connected, 10)

    with in_thread("source", lambda stop: source.run(receiver.handle, stop, idle)):
        assert reaches(False)
        with DocumentProxy(inside, outside) as proxy, in_thread("proxy", proxy.run):
            assert reaches(True)
            with publishing(proxy, receiver):
                pass
        assert reaches(False)
        with DocumentProxy(inside, outside) as proxy, in_thread("proxy", proxy.run):
            assert reaches(True)
            with publishing(proxy, receiver):
                pass
    assert not source.counts.connected


def test_a_port_that_is_taken_and_an_address_that_is_none_are_named(proxy):
    with pytest.raises(ServiceError, match=r"cannot bind tcp://127\.0\.0\.1:\d+"):
        DocumentProxy(proxy.in_address, "127.0.0.1:0")
    for address in ("localhost", "http://a:1", "a:99999", ""):
        with pytest.raises(SettingsError, match="expected a 0MQ address"):
            ZmqSource(address)
