"""Runs that no plan would take on purpose: each ends in a stated state, harms nothing else, and the next scan works."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def the_next_scan_works(service, documents):
    """Whatever a test did, a scan after it comes to its end with every frame."""
    yield
    scan = documents()
    service.publish(*scan.whole(6))
    assert service.ended(scan.key)["frames_used"] == 6


def run_of(service, uid):
    return next((run for run in service.ingest().get("recent_runs", []) if run["uid"] == uid), None)


def test_a_scan_by_a_run_engine_is_final_with_every_frame(service, RE, small_scan):
    scan = small_scan()
    RE.subscribe(service.publisher)
    (uid,) = RE(scan.plan())
    import time
    t=time.time()
    from pfitre_service.model import TomogramKey
    metadata = service.ended(TomogramKey(uid))
    print(time.time()-t, metadata)
    for r in service.reader(TomogramKey(uid)).progress(): print(r)
