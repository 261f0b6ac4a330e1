"""The worker's publisher thread on a real catalogue."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from pfitre_service.engine.assessment import Statement
from pfitre_service.engine.volumes import AssessedVolumes
from pfitre_service.model import Progress
from pfitre_service.service.worker.publisher import Publisher, Status

STATEMENT = Statement("Half of it.", ((-40.0, 40.0),), 0.1, 0.05, 0.2, 0.3, 0.4, 0.2, 0.4, 0.1, 90.0, ())


def row(revision):
    return Progress(revision, "iterating", 1000.0 + revision, 4, 4, revision, 0.1, 0.2, 0.3, 0.01, 0.05, 1.0)


def volumes(value):
    volume = np.full((3, 8, 8), value, np.float32)
    maps = {"expected_error": volume / 4, "inferred": volume / 8, "preview": volume, "prior_gap": volume}
    return AssessedVolumes(volume, volume / 2, **maps, statement=STATEMENT)


def wait_for(condition, what, timeout_s=20.0):
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, f"{what} did not happen"
        time.sleep(0.02)


@pytest.fixture
def tomogram(catalog, key):
    catalog.create(key, {})
    return key


def test_what_is_handed_over_is_in_the_catalogue_when_the_publisher_is_done_with_it(catalog, tomogram):
    with Publisher(catalog) as publisher:
        status = Status("iterating", "", {"frames_used": 4})
        publisher.submit(tomogram, rows=[row(1)], volumes=(1, volumes(1)), status=status)
        wait_for(lambda: publisher.is_done_with(tomogram), "the publication")
        assert publisher.published_revision(tomogram) == 1
    reader = catalog.reader(tomogram)
    assert (reader.volume().min(), reader.physics().min(), reader.expected_error().min()) == (1, 0.5, 0.25)
    assert reader.inferred().min() == 0.125
    assert reader.revision() == 1
    assert [step.revision for step in reader.progress()] == [1]
    assert (reader.metadata()["status"], reader.metadata()["frames_used"]) == ("iterating", 4)


def test_of_volumes_the_newest_wins_and_no_progress_row_is_left_out(catalog, tomogram):
    with Publisher(catalog) as publisher:
        for revision in range(1, 41):
            status = Status("iterating", "", {"revision": revision})
            publisher.submit(tomogram, rows=[row(revision)], volumes=(revision, volumes(revision)), status=status)
        wait_for(lambda: publisher.is_done_with(tomogram), "the publication")
    reader = catalog.reader(tomogram)
    assert (reader.revision(), reader.volume().max(), reader.metadata()["revision"]) == (40, 40, 40)
    assert [step.revision for step in reader.progress()] == list(range(1, 41))


def test_leaving_the_block_writes_what_waits_and_ends_the_thread(catalog, tomogram):
    with Publisher(catalog) as publisher:
        publisher.submit(tomogram, rows=[row(1)], volumes=(1, volumes(1)), status=Status("final", "done", {}))
    assert catalog.summary(tomogram).status == "final"
    assert "pfitre-publisher" not in [thread.name for thread in threading.enumerate()]


def test_while_the_server_is_gone_results_wait_and_the_reason_is_known(own_server, key):
    with own_server.catalog() as catalog:
        catalog.create(key, {})
        with Publisher(catalog) as publisher:
            own_server.stop()
            publisher.submit(key, rows=[row(1)], volumes=(1, volumes(1)), status=Status("iterating", "", {}))
            wait_for(lambda: publisher.problem is not None, "a word about it")
            publisher.submit(key, rows=[row(2)], volumes=(2, volumes(2)), status=Status("final", "done", {}))
            assert not publisher.is_done_with(key)
            own_server.start()
            wait_for(lambda: publisher.is_done_with(key), "the publication")
            assert publisher.problem is None
        reader = catalog.reader(key)
        assert (reader.revision(), [step.revision for step in reader.progress()]) == (2, [1, 2])
        assert reader.metadata()["status"] == "final"


def test_results_that_cannot_be_written_do_not_hold_up_those_of_others(own_server, key):
    other = type(key)(f"{key}-other")
    with own_server.catalog() as catalog, Publisher(catalog) as publisher:
        for one in (key, other):
            catalog.create(one, {})
        publisher.submit(key, volumes=(1, volumes(1)))
        wait_for(lambda: publisher.is_done_with(key), "the first publication")
        volume = own_server.data_dir / "data" / "tomograms" / str(key) / "volume"
        aside = volume.rename(volume.with_name("aside"))
        volume.write_text("no place for a volume")
        publisher.submit(key, volumes=(2, volumes(2)), status=Status("iterating", "", {}))
        wait_for(lambda: publisher.problem is not None, "a word about it")
        publisher.submit(other, volumes=(1, volumes(5)), status=Status("final", "", {}))
        wait_for(lambda: publisher.is_done_with(other), "the other's publication")
        assert not publisher.is_done_with(key)
        volume.unlink()
        aside.rename(volume)
        wait_for(lambda: publisher.is_done_with(key), "the second publication")
        assert publisher.problem is None
        assert catalog.reader(key).revision() == 2


def test_results_of_a_tomogram_that_was_removed_are_left_out(catalog, tomogram, key):
    gone = type(key)(f"{key}-gone")
    with Publisher(catalog) as publisher:
        publisher.submit(gone, rows=[row(1)], volumes=(1, volumes(1)))
        publisher.submit(tomogram, volumes=(1, volumes(1)), status=Status("final", "", {}))
        wait_for(lambda: publisher.is_done_with(tomogram), "the publication")
        wait_for(lambda: publisher.is_done_with(gone), "the refusal")
        assert publisher.problem is None
    assert catalog.summary(tomogram).status == "final"


def test_results_whose_array_is_damaged_are_refused_with_the_reason(server, catalog, tomogram):
    with Publisher(catalog) as publisher:
        publisher.submit(tomogram, volumes=(1, volumes(1)))
        wait_for(lambda: publisher.is_done_with(tomogram), "the first publication")
        assert publisher.refusal(tomogram) is None
        (server.data_dir / "data" / "tomograms" / str(tomogram) / "volume" / "zarr.json").write_text("{")
        publisher.submit(tomogram, volumes=(2, volumes(2)), status=Status("final", "", {}))
        wait_for(lambda: publisher.refusal(tomogram) is not None, "the refusal")
        assert "zarr.json cannot be understood" in publisher.refusal(tomogram)
        publisher.submit(tomogram, status=Status("failed", "its results are damaged", {}))
        wait_for(lambda: publisher.is_done_with(tomogram), "the last word")
    assert catalog.summary(tomogram).status == "failed"
