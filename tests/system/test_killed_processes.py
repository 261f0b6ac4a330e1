"""Each process of the service killed in the middle of a scan: what is lost is counted, and what is stored is used."""

from __future__ import annotations

import numpy as np
import pytest

from pfitre_service.model import TomogramKey

pytestmark = pytest.mark.slow

# The volume is where the solver has converged to, so it must not matter on which way it came there.
CONVERGED = {"recon": {"tolerance": "1e-4", "max_iterations": "300"}}


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
        scan = small_scan()
        RE(scan.plan())
        return started["key"]

    return run


def relative_difference(volume, other):
    return float(np.linalg.norm(volume - other) / np.linalg.norm(other))


@pytest.fixture
def reference(service, scan_with, request):
    """The volume of a scan without an accident; made once."""
    if not hasattr(request.module, "_reference"):
        key = scan_with({})
        service.ended(key)
        request.module._reference = service.reader(key).volume()
    return request.module._reference


def test_a_killed_worker_comes_back_and_uses_every_frame(service, scan_with, reference, until):
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
    print(relative_difference(service.reader(key).volume(), reference))
    assert relative_difference(service.reader(key).volume(), reference) < 1e-2


def test_tiled_killed_in_mid_scan_loses_no_frame(service, scan_with, reference, until):
    killed = {}

    def kill(key):
        until(lambda: service.stored(key) == 8, "eight stored frames")
        killed["pid"] = service.kill("tiled")

    def see_that_frames_wait(key):
        until(lambda: service.ingest()["store"]["waiting_frames"], "frames that wait in memory")
        report = service.health("ingest")
        assert report.state == "waiting"
        assert "frames wait in memory" in report.reason

    key = scan_with({8: kill, 12: see_that_frames_wait})
    service.ready_again("tiled", killed["pid"])
    metadata = service.ended(key)
    assert (metadata["frames_used"], service.stored(key)) == (26, 26)
    assert service.reader(key).acquisition().received["missing"] == {}
    print(relative_difference(service.reader(key).volume(), reference))
    assert relative_difference(service.reader(key).volume(), reference) < 1e-2
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
    print(metadata, acquisition)
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
    summary = service.summary(key)
    print(summary, service.ingest())
    metadata = service.ended(key)
    missing = service.reader(key).acquisition().received["missing"].get("primary", 0)
    assert service.stored(key) == metadata["frames_used"] == 26 - missing
