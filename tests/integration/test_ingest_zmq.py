"""A real RunEngine, bluesky's own publisher, what hears it, the spool, and the tomogram state machine behind it."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
    DocumentRules,
    SpoolReader,
    SpoolSource,
    SpoolWriter,
    TomogramAssembler,
    ZmqReceiver,
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


@contextmanager
def hearing(folder: Path, *addresses: str | None, **options: Any) -> Iterator[ZmqReceiver]:
    """What hears documents and keeps them in a spool in `folder`."""
    with (
        SpoolWriter(folder, most_bytes=1 << 30, sync_ms=20) as spool,
        ZmqReceiver(*addresses, **options) as proxy,
        in_thread("receive", lambda stop: proxy.run(lambda parts: spool.append("here", parts), stop, lambda: None)),
    ):
        yield proxy


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[ZmqReceiver]:
    with hearing(tmp_path / "spool", "127.0.0.1:0", "127.0.0.1:0", max_message_bytes=1 << 24) as proxy:
        yield proxy


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SpoolSource]:
    with SpoolReader(tmp_path / "spool") as spool:
        yield SpoolSource(spool, max_message_bytes=1 << 20)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@contextmanager
def listening(source: SpoolSource, receiver: Receiver) -> Iterator[None]:
    with in_thread("source", lambda stop: source.run(receiver.handle, stop, lambda: None)):
        yield


@contextmanager
def publishing(proxy: ZmqReceiver, receiver: Receiver, **options: Any) -> Iterator[Publisher]:
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


def test_garbage_and_attacks_on_the_same_proxy_leave_the_next_scan_whole(
    proxy, source, receiver, engine, tomography, tmp_path
):
    proof = tmp_path / "proof"
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


def test_messages_made_to_take_for_ever_cost_a_running_scan_no_frame(proxy, source, receiver, engine, tomography):
    attacks = [colliding_keys(), operations_without_end(), arguments_copied_again_and_again(), page_without_end()]
    began = time.monotonic()
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


def test_a_prefix_picks_its_publisher_among_two(proxy, source, receiver, tmp_path):
    """Behind a proxy of the beamline, which is another receiver here."""
    everything, picked = Receiver(), tmp_path / "picked"
    with (
        hearing(picked, proxy.out_address, None, prefix=b"ours"),
        SpoolReader(picked) as spool,
        listening(SpoolSource(spool), receiver),
        listening(source, everything),
        publishing(proxy, receiver, prefix=b"ours") as ours,
        publishing(proxy, everything, prefix=b"theirs") as theirs,
    ):
        theirs("start", {"uid": "probe-theirs"})
        assert everything.wait(lambda: "probe-theirs" in everything.seen)
        ours("start", {"uid": "probe-ours"})
        assert receiver.wait(lambda: "probe-ours" in receiver.seen)
    assert "probe-theirs" not in receiver.seen
    assert all(uid.startswith("probe") for uid in receiver.seen)


def test_a_burst_larger_than_the_usual_mark_arrives_whole(proxy, source, receiver):
    with listening(source, receiver), publishing(proxy, receiver) as publisher:
        publisher._socket.setsockopt(zmq.SNDHWM, 0)
        with receiver.changed:
            for number in range(800):
                publisher("event", {"uid": f"probe-burst-{number}", "data": {"image": np.zeros((16, 16))}})
        assert receiver.wait(lambda: "probe-burst-799" in receiver.seen)
    assert sum(uid.startswith("probe-burst") for uid in receiver.seen) == 800


def test_it_says_whether_the_beamline_s_proxy_is_there_and_finds_it_again(receiver, tmp_path):
    with ZmqReceiver("127.0.0.1:0", "127.0.0.1:0") as proxy:
        inside, outside = proxy.in_address, proxy.out_address
    beat = threading.Condition()

    def idle() -> None:
        with beat:
            beat.notify_all()

    with ZmqReceiver(outside, None) as behind:

        def reaches(connected: bool) -> bool:
            with beat:
                return beat.wait_for(lambda: behind.connected is connected, 10)

        with (
            SpoolWriter(tmp_path / "behind", most_bytes=1 << 30, sync_ms=20) as kept,
            in_thread("behind", lambda stop: behind.run(lambda parts: kept.append("here", parts), stop, idle)),
            SpoolReader(tmp_path / "behind") as spool,
            listening(SpoolSource(spool), receiver),
        ):
            assert reaches(False)
            for _ in range(2):
                with hearing(tmp_path / "proxy", inside, outside) as proxy:
                    assert reaches(True)
                    with publishing(proxy, receiver):
                        assert proxy.messages > 0
                assert reaches(False)


def test_what_waits_in_the_socket_when_it_is_told_to_stop_is_kept():
    kept, stop = [], threading.Event()
    with ZmqReceiver("127.0.0.1:0", "127.0.0.1:0") as other:
        publisher = Publisher(other.in_address)

        def keep(parts: list[bytes]) -> None:
            kept.append(parts[0])

        with in_thread("receive", lambda stop: other.run(keep, stop, lambda: None)):
            until(lambda: publisher("start", {"uid": "probe"}) or kept, 10)
        # The socket hears while nobody reads it: what it holds is taken although `stop` is set before.
        for number in range(100):
            publisher("event", {"uid": f"probe-{number}"})
        publisher("stop", {"uid": "probe-last"})
        stop.set()
        until(lambda: other.run(keep, stop, lambda: None) or b"probe-last" in kept[-1], 10)
        publisher.close()
    assert sum(b"event" in message for message in kept) == 100


def test_a_port_that_is_taken_and_an_address_that_is_none_are_named(proxy):
    with pytest.raises(ServiceError, match=r"cannot bind tcp://127\.0\.0\.1:\d+"):
        ZmqReceiver(proxy.in_address, "127.0.0.1:0")
    for address in ("localhost", "http://a:1", "a:99999", ""):
        with pytest.raises(SettingsError, match="expected a 0MQ address"):
            ZmqReceiver(address, None)


def until(condition: Callable[[], Any], timeout_s: float) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at
