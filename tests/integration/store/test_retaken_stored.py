"""Runs with points that were taken again, as TiledWriter stores them: each image stays with its own angle."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from contextlib import suppress
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import RunEngineInterrupted
from bluesky_tiled_plugins import TiledWriter
from ophyd.sim import SynAxis, SynSignal
from tiled.client import from_uri

from pfitre_service.addresses import free_ports
from pfitre_service.errors import InputError
from pfitre_service.ingest import AddFrames, AddReferences, DocumentRules, RetakeFrames, TomogramAssembler
from pfitre_service.ingest.sources.tiled_runs import RunFollower
from pfitre_service.ingest.stored_runs.tiled_catalogue import StoredRuns, documents_of_run
from pfitre_service.store.catalog import Catalog
from pfitre_service.twin.beamlines.exposures import PlayedExposures, expose
from pfitre_service.twin.beamlines.filestore import HdfDetector
from pfitre_service.twin.devices import RotationStage

_COUNTER = itertools.count()
ANGLES = (-30.0, -20.0, -10.0, 0.0, 10.0, 20.0)
PAUSED_AT = {1, 4}
TAKEN = (-30.0, -20.0, -20.0, -10.0, 0.0, 10.0, 10.0, 20.0)
"""The angles in the order of the exposures."""


class Camera:
    """Each image tells by its pixels how many were taken before."""

    def __init__(self) -> None:
        self.theta = SynAxis(name="theta")
        self.taken = -1  # the signal asks for a value once when it is made
        self.signal = SynSignal(func=self.image, name="camera")

    def image(self) -> Any:
        self.taken += 1
        return np.full((4, 24), 99 + self.taken, np.float32)


@pytest.fixture
def archive(server):
    client = from_uri(server.url, api_key=server.api_key)
    yield client.create_container(f"raw-{next(_COUNTER)}")
    client.context.close()


@pytest.fixture(scope="module")
def beamline_server(tmp_path_factory):
    """A Tiled server as beamlines run it, which reads files that detectors wrote, and the folder of those. In a process
    of its own: a second one in ours would change the key of the first."""
    folder = tmp_path_factory.mktemp("beamline")
    port = free_ports(1)[0]
    options = ["--temp", "--read", str(folder), "--api-key", "secret", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "tiled.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tiled", "serve", "catalog", *options], stdout=log, stderr=log
        )
        try:
            Catalog.connect(f"http://127.0.0.1:{port}", "secret", timeout_s=60).close()
            yield f"http://127.0.0.1:{port}", folder
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def archive_of_files(beamline_server):
    client = from_uri(beamline_server[0], api_key="secret")
    yield client.create_container(f"raw-{next(_COUNTER)}")
    client.context.close()


@pytest.fixture
def file_detector(beamline_server):
    """A detector that writes one HDF5 file, its stage, and what it sees."""
    exposures = dataclasses.replace(expose(angles=len(ANGLES), rows=8, columns=16), angles=np.array(ANGLES))
    stage = RotationStage(name="rotation")
    detector = HdfDetector(name="detector", source=PlayedExposures(exposures), stage=stage, exposure_s=0)
    detector.files.save_in(beamline_server[1] / "detector")
    return detector, stage, exposures


def paused_scan(detector, theta, *, before_the_event=False):
    """A step scan that is paused at PAUSED_AT, after the event or, after the exposure, before it."""

    @bpp.stage_decorator([detector])
    @bpp.run_decorator(md={"motors": [theta.name]})
    def plan():
        pauses = set(PAUSED_AT)
        for place, angle in enumerate(ANGLES):
            yield from bps.checkpoint()
            yield from bps.mv(theta, angle)
            if before_the_event and place in pauses:
                pauses.discard(place)
                yield from bps.trigger(detector, wait=True)
                yield from bps.pause()
            yield from bps.trigger_and_read([detector, theta])
            if not before_the_event and place in PAUSED_AT:
                yield from bps.pause()

    return plan()


def run(RE, plan, *subscribers):
    tokens = [RE.subscribe(one) for one in subscribers]
    with suppress(RunEngineInterrupted):
        RE(plan)
    while RE.state == "paused":
        with suppress(RunEngineInterrupted):
            RE.resume()
    for token in tokens:
        RE.unsubscribe(token)


def stored_documents(archive, readable=False):
    runs = StoredRuns.at(archive.uri, archive.context.api_key)
    return list(runs.closed_after(documents_of_run(runs.run(None), lambda path: readable)))


def events_of(documents):
    return [document for name, document in documents if name == "event"]


def assert_last_takes_count(documents):
    """The assembler takes out the first takes, and every image has the angle it was taken at."""
    assembler = TomogramAssembler(DocumentRules())
    actions = [action for name, document in documents for action in assembler.handle(name, document)]
    frames = [frame for action in actions if isinstance(action, AddFrames) for frame in action.frames]
    taken = [(TAKEN[int(frame.image[0, 0]) - 100], frame.angle) for frame in frames]
    assert taken == [(angle, angle) for angle in TAKEN]
    assert [action.seq_num for action in actions if isinstance(action, RetakeFrames)] == [2, 5]
    assert not [action for action in actions if isinstance(action, AddReferences)]
    assert (assembler.counts.duplicates, assembler.counts.missing) == (0, 0)


@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_of_a_stored_run_the_last_takes_count(RE, archive, batch_size):
    camera, wire = Camera(), []
    writer = TiledWriter(archive, batch_size=batch_size)
    run(RE, paused_scan(camera.signal, camera.theta), writer, lambda *pair: wire.append(pair))
    documents = stored_documents(archive)
    assert_last_takes_count(documents)
    numbers = [event["seq_num"] for event in events_of(documents)]
    assert numbers == [event["seq_num"] for event in events_of(wire)] == [1, 2, 2, 3, 4, 5, 5, 6]
    uids = [event["uid"] for event in events_of(documents)]
    assert len(set(uids)) == len(TAKEN)
    assert uids == [event["uid"] for event in events_of(stored_documents(archive))]


def test_of_a_run_that_is_followed_the_last_takes_count(RE, archive):
    camera, documents, followers = Camera(), [], []
    runs = StoredRuns.at(archive.uri, archive.context.api_key)

    def follow(name, document):
        if name == "start":
            followers.append(RunFollower(runs.run(None), lambda path: False))
        documents.extend(followers[0].new_documents())
        if name == "event":
            assert len(events_of(documents)) == camera.taken

    run(RE, paused_scan(camera.signal, camera.theta), TiledWriter(archive, batch_size=1), follow)
    list(runs.closed_after(iter(())))
    assert documents[-1][0] == "stop"
    assert documents[-1][1]["exit_status"] == "success"
    assert_last_takes_count(documents)


@pytest.mark.parametrize("readable", [True, False])
def test_images_in_a_file_stay_with_their_angles(RE, archive_of_files, file_detector, readable):
    detector, stage, exposures = file_detector
    run(RE, paused_scan(detector, stage), TiledWriter(archive_of_files))
    documents = stored_documents(archive_of_files, readable)
    events = events_of(documents)
    assert [event["data"]["rotation"] for event in events] == list(TAKEN)
    if readable:
        datums = [document for name, document in documents if name == "stream_datum"]
        assert [datum["indices"]["start"] for datum in datums] == list(range(len(TAKEN)))
        assert [datum["seq_nums"]["start"] for datum in datums] == [event["seq_num"] for event in events]
        assert len({datum["uid"] for datum in datums}) == len(TAKEN)
    else:
        for event, angle in zip(events, TAKEN, strict=True):
            np.testing.assert_array_equal(event["data"]["detector_image"].squeeze(), exposures.at(angle))


@pytest.mark.parametrize(("readable", "why"), [(True, "of which no event tells"), (False, r"reshape \(10, 8, 16\)")])
def test_exposures_that_became_no_event_are_told_of(RE, archive_of_files, file_detector, readable, why):
    detector, stage, _ = file_detector
    run(RE, paused_scan(detector, stage, before_the_event=True), TiledWriter(archive_of_files))
    with pytest.raises(InputError, match=why):
        stored_documents(archive_of_files, readable)


def test_an_array_that_lacks_a_take_is_not_paired_with_the_others(RE, archive):
    camera = Camera()
    run(RE, paused_scan(camera.signal, camera.theta), TiledWriter(archive))
    stream = archive.values()[0].base["primary"].base
    images = stream["camera"].read()
    stream.delete_contents("camera", external_only=False)
    stream.write_array(images[1:], key="camera")
    with pytest.raises(InputError, match="8 takes in all, and Tiled holds 7 entries of 'camera'"):
        stored_documents(archive)
