"""What somebody sees who has a Tiled client, the address, and nothing of ours."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from tiled.client import from_uri

from pfitre_service.model import TomogramKey

pytestmark = pytest.mark.slow


def look(url, key):
    """Volume (z, y, x) and its metadata as they are now, by a plain client without a key."""
    client = from_uri(url)
    try:
        node = client["tomograms"][str(key)]["volume"]
        return node.read(), dict(node.metadata)
    finally:
        client.context.close()


def distance(volume, other):
    return float(np.linalg.norm(volume - other) / np.linalg.norm(other))


def test_a_plain_client_sees_the_volume_grow_and_finds_it_again_after_a_restart(
    own_settings, arguments_for, start_pfitre, connect, RE, small_scan, at_projection, until
):
    arguments = ["serve", "--data-dir", str(own_settings.data_dir), *arguments_for(own_settings)]
    arguments += ["--set", "worker.publish_interval_s=0.1"]
    serving = start_pfitre(*arguments)
    scan, seen = small_scan(), []
    started = {}
    RE.subscribe(lambda name, document: started.update(key=TomogramKey(document["uid"])), "start")

    def look_once_the_angles_are_in(angles):
        key = started["key"]

        def newer():
            document = service.reader(key).progress()
            used = document[-1].angles_used if document else 0
            return used == angles and service.revision(key) > (seen[-1][1]["revision"] if seen else 0)

        until(newer, f"a volume of {angles} angles")
        seen.append(look(service.url, key))

    with connect(own_settings) as service:
        RE.subscribe(service.publisher)
        RE.subscribe(at_projection({n: lambda n=n: look_once_the_angles_are_in(n) for n in (4, 10, 18, 25)}))
        RE(scan.plan())
        key = started["key"]
        service.ended(key)
        final, metadata = look(service.url, key)
    revisions = [document["revision"] for _, document in seen] + [metadata["revision"]]
    errors = [distance(volume, scan.truth) for volume, _ in seen] + [distance(final, scan.truth)]
    assert len(seen) >= 3
    assert revisions == sorted(set(revisions))
    # Which step of the solver is seen at a number of angles is chance: a first step with more angles may be as far
    # from the truth as a later one with fewer. The volume comes nearer, and the last is as good as any.
    assert errors[2] < 0.8 * errors[0], errors
    assert errors[-1] < 1.05 * min(errors[:-1]), errors

    asked_at = time.monotonic()
    os.killpg(serving.process.pid, signal.SIGINT)  # Ctrl-C reaches the whole group
    assert serving.process.wait(10) == 0
    assert time.monotonic() - asked_at < 10
    assert serving.left_over() == []
    assert "Traceback" not in serving.log.read_text()

    again = start_pfitre(*arguments)
    with connect(own_settings) as service:
        after, same = look(service.url, key)
        assert service.ended(key)["status"] == "final"
    np.testing.assert_array_equal(after, final)
    assert same == metadata
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(10) == 0
    assert again.left_over() == []
