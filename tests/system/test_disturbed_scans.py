"""Accidents in the middle of a scan: what is lost is counted, what is stored is used, the volume comes out the same."""

from __future__ import annotations

import numpy as np
import pytest

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
        until(lambda: service.health("ingest").state == "degraded", "a word about frames in memory")
        assert "frames are in memory alone" in service.health("ingest").reason

    key = scan_with({8: kill, 12: see_that_frames_wait})
    service.ready_again("tiled", killed["pid"])
    metadata = service.ended(key)
    assert (metadata["frames_used"], service.stored(key)) == (26, 26)
    assert service.reader(key).acquisition().received["missing"] == {}
    assert relative_difference(service.reader(key).volume(), undisturbed) < 1e-2
    until(lambda: service.health("ingest").state == "idle", "peace")


def test_ingest_killed_in_mid_scan_goes_on_and_counts_what_it_missed(service, scan_with, until):
    killed = {}

    def kill(key):
        until(lambda: service.stored(key) == 8, "eight stored frames")
        killed["pid"] = service.kill("ingest")

    def wait_until_it_listens_again(key):
        service.ready_again("ingest", killed["pid"])
        until(lambda: service.health("ingest").state == "receiving", "the open run's resumption")
        until(lambda: service.ingest()["source"]["connected"], "the connection to the proxy")

    key = scan_with({8: kill, 12: wait_until_it_listens_again})
    metadata = service.ended(key)
    acquisition = service.reader(key).acquisition()
    assert acquisition.state == "complete"
    missing = acquisition.received["missing"]["primary"]
    assert missing >= 4
    assert service.stored(key) == metadata["frames_used"] == 26 - missing
    assert f"{26 - missing} of 26 announced" in metadata["reason"]


def test_the_proxy_killed_in_mid_scan_costs_counted_frames_only(service, scan_with, until):
    killed = {}

    def kill(key):
        until(lambda: service.stored(key) == 8, "eight stored frames")
        killed["pid"] = service.kill("proxy")
        service.ready_again("proxy", killed["pid"])
        until(lambda: service.ingest()["source"]["connected"], "the connection to the proxy")

    key = scan_with({8: kill})
    service.until_heard()
    metadata = service.ended(key)
    missing = service.reader(key).acquisition().received["missing"].get("primary", 0)
    assert service.stored(key) == metadata["frames_used"] == 26 - missing


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
