"""Accidents in the middle of a scan: what is lost is counted, what is stored is used, the volume comes out the same."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import zmq
from bluesky.callbacks.zmq import Publisher

from pfitre_service.model import TomogramKey

pytestmark = pytest.mark.slow

# The volume is where the solver converges to, so it must not matter on which way it came there. The stopping rule that
# watches the held-out error ends earlier than that, so nothing is held out.
CONVERGED = {
    "prior": {"name": "tv"},
    "recon": {"tolerance": 2e-5, "max_iterations": 800},
    "worker": {"heldout_every": 0, "publish_interval_s": 0.1, "poll_interval_s": 0.05},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory, start_service):
    with start_service(tmp_path_factory.mktemp("killed"), CONVERGED) as service:
        yield service


@pytest.fixture
def scan_with(service, RE, small_scan, at_projection):
    """Runs a scan during which, right after projection n was published, `actions[n](key)` is called."""

    def run(actions):
        started = {}
        RE.subscribe(lambda name, document: started.update(key=TomogramKey(document["uid"])), "start")
        RE.subscribe(service.publisher)
        RE.subscribe(at_projection({n: lambda n=n: actions[n](started["key"]) for n in actions}))
        RE(small_scan().plan())
        return started["key"]

    return run


@pytest.fixture(scope="module")
def undisturbed(service, documents):
    """The volume of the same frames without an accident."""
    scan = documents()
    service.publish(*scan.whole())
    assert service.ended(scan.key)["frames_used"] == 26
    return service.reader(scan.key).volume()


def relative_difference(volume, other):
    return float(np.linalg.norm(volume - other) / np.linalg.norm(other))


def test_a_killed_worker_comes_back_and_uses_every_frame(service, scan_with, undisturbed, until):
    killed = {}

    def kill(key):
        until(lambda: service.revision(key) >= 2, "a volume before the accident")
        killed["revision"], killed["pid"] = service.revision(key), service.kill("worker")

    key = scan_with({12: kill})
    metadata = service.ended(key)
    assert service.ready_again("worker", killed["pid"]).pid != killed["pid"]
    assert (metadata["frames_used"], service.stored(key)) == (26, 26)
    assert metadata["revision"] == service.revision(key) > killed["revision"]
    revisions = [row.revision for row in service.reader(key).progress()]
    assert revisions == sorted(set(revisions))
    assert relative_difference(service.reader(key).volume(), undisturbed) < 1e-2


def test_tiled_killed_in_mid_scan_loses_no_frame(service, scan_with, undisturbed, until):
    killed = {}

    def kill(key):
        until(lambda: service.stored(key) == 8, "eight stored frames")
        killed["pid"] = service.kill("tiled")

    def see_that_frames_wait(key):
        until(lambda: service.health("ingest").state == "degraded", "a word about frames that wait")
        assert "frames wait on the disk" in service.health("ingest").reason

    key = scan_with({8: kill, 12: see_that_frames_wait})
    service.ready_again("tiled", killed["pid"])
    metadata = service.ended(key)
    assert (metadata["frames_used"], service.stored(key)) == (26, 26)
    assert service.reader(key).acquisition().received["missing"] == {}
    assert relative_difference(service.reader(key).volume(), undisturbed) < 1e-2
    until(lambda: service.health("ingest").state == "idle", "peace")


def test_ingest_killed_five_times_in_mid_scan_loses_nothing(service, scan_with, undisturbed, until):
    killed = []

    def kill(key):
        until(lambda: (report := service.health("ingest")) and report.pid not in killed, "another life of ingest")
        killed.append(service.kill("ingest"))

    key = scan_with(dict.fromkeys((4, 9, 14, 19, 24), kill))
    metadata = service.ended(key)
    assert len(set(killed)) == 5
    acquisition = service.reader(key).acquisition()
    assert (acquisition.state, acquisition.received["missing"]) == ("complete", {})
    assert acquisition.received["projections"] == service.stored(key) == metadata["frames_used"] == 26
    assert relative_difference(service.reader(key).volume(), undisturbed) < 1e-2
    until(lambda: service.ingest().get("missing") == 0, "its counts")


def test_a_run_of_which_ingest_saw_nothing_is_stored_after_its_restart(service, documents, until):
    scan = documents()
    heard = service.health("receive").details["messages"]
    service.kill("ingest")
    service.publish(*scan.whole())
    until(lambda: service.health("receive").details["messages"] >= heard + 29, "the whole run's reception")
    assert service.summary(scan.key) is None
    assert service.ended(scan.key)["frames_used"] == 26
    assert service.reader(scan.key).acquisition().received["missing"] == {}


def test_a_killed_receiver_costs_nothing_that_its_publisher_can_keep(service, scan_with, until):
    killed = {}

    def kill(key):
        until(lambda: service.stored(key) == 8, "eight stored frames")
        killed["pid"] = service.kill("receive")  # frames 9 to 26 are published while it is down or comes back

    key = scan_with({8: kill})
    service.ready_again("receive", killed["pid"])
    metadata = service.ended(key)
    assert service.stored(key) == metadata["frames_used"] == 26
    assert service.reader(key).acquisition().received["missing"] == {}


def test_what_a_publisher_dropped_while_nobody_heard_is_named(service, documents, until):
    scan = documents()
    impatient = Publisher(service.settings.proxy.publish)
    impatient._socket.disconnect(f"tcp://{service.settings.proxy.publish}")
    impatient._socket.setsockopt(zmq.SNDHWM, 4)
    impatient._socket.connect(f"tcp://{service.settings.proxy.publish}")
    start = scan.start()
    try:
        until(lambda: impatient(*start) or service.ingest().get("open_runs"), "the start's way")
        for name, document in [scan.descriptor(), *(scan.event(number) for number in range(1, 9))]:
            impatient(name, document)
            _pause()
        until(lambda: service.stored(scan.key) == 8, "eight stored frames")
        killed = service.kill("receive")
        for number in range(9, 19):
            impatient(*scan.event(number))
        service.ready_again("receive", killed)
        until(lambda: service.stored(scan.key) > 8, "the frames that the publisher kept")
        for name, document in [*(scan.event(number) for number in range(19, 27)), scan.stop(26)]:
            impatient(name, document)
            _pause()
        metadata = service.ended(scan.key)
    finally:
        impatient.close()
    acquisition = service.reader(scan.key).acquisition()
    missing = acquisition.received["missing"]["primary"]
    assert 0 < missing < 10
    assert service.stored(scan.key) == metadata["frames_used"] == 26 - missing
    assert f"frames not there: stream 'primary': {19 - missing}-18" in acquisition.reason


def test_a_junk_flood_in_mid_scan_is_read_past_and_freed(service, documents, until):
    scan = documents()
    first, *rest = scan.whole()
    service.publish(first, *rest[:10])
    for number in range(900):
        service.publisher._socket.send(b" event " + bytes([number % 256]) * (number % 500))
        if number % 100 == 0:
            _pause()
    service.publish(*rest[10:])
    assert service.ended(scan.key)["frames_used"] == 26
    until(lambda: (spool := service.ingest()["spool"])["settled"] == spool["next_message"] > 900, "an empty spool")


def _pause():
    threading.Event().wait(0.05)


def test_flats_that_come_last_give_the_volume_of_flats_that_came_first(service, documents, until):
    first, last = documents(fluorescence=False), documents(fluorescence=False)
    references = [*first.references("dark", 3), *first.references("flat", 3)]
    of_last = [*last.references("dark", 3), *last.references("flat", 3)]  # the same frames, under the other run's name
    projections = [first.image(number) for number in range(1, 27)]

    def events(scan):
        return [scan.event(number, image) for number, image in enumerate(projections, start=1)]

    service.publish(first.start(), *references, first.descriptor(), *events(first), first.stop(26))
    service.ended(first.key)
    service.publish(last.start(), last.descriptor(), *events(last))
    until(lambda: service.revision(last.key) >= 4, "a volume without flats")
    service.publish(*of_last, last.stop(26))
    metadata = service.ended(last.key)
    assert metadata["frames_used"] == 26
    early, late = service.reader(first.key).volume(), service.reader(last.key).volume()
    assert relative_difference(late, early) < 1e-3
    assert metadata["warnings"] == []
