"""Files that cannot or must not be read: refused or waited for in words, and the service lives."""

from __future__ import annotations

import uuid

import h5py
import numpy as np
import pytest

from pfitre_service.model import TomogramKey

pytestmark = pytest.mark.slow

ANGLES = np.linspace(-60, 60, 8)
SHAPE = (4, 16)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("detector")


@pytest.fixture(scope="module")
def watched(start_service, tmp_path_factory, root):
    rules = {"roots": [str(root)], "file_wait_s": 1.0, "rotation": "theta", "measurement": "line_integral"}
    with start_service(tmp_path_factory.mktemp("service"), {"documents": rules}) as service:
        yield service


class FileScan:
    """A run whose images lie in one HDF5 file."""

    def __init__(self, uri, mimetype="application/x-hdf5"):
        self.uid, self.key = str(uuid.uuid4()), None
        self.key = TomogramKey(self.uid)
        self._uri, self._mimetype = uri, mimetype

    def documents(self):
        keys = {
            "camera": {"dtype": "array", "shape": [1, *SHAPE], "source": "sim", "external": "STREAM:"},
            "theta": {"dtype": "number", "shape": [], "source": "sim"},
        }
        run, descriptor, resource = self.uid, f"{self.uid}-d", f"{self.uid}-r"
        yield "start", {"uid": run, "time": 1.0}
        yield "descriptor", {"uid": descriptor, "run_start": run, "name": "primary", "data_keys": keys, "time": 1.0}
        announced = {"uid": resource, "run_start": run, "data_key": "camera", "mimetype": self._mimetype}
        yield "stream_resource", {**announced, "uri": self._uri, "parameters": {"dataset": "/data"}}
        for number, angle in enumerate(ANGLES, start=1):
            event = {"uid": f"{run}-{number}", "descriptor": descriptor, "seq_num": number, "time": 2.0}
            yield "event", {**event, "data": {"theta": float(angle)}, "timestamps": {"theta": 2.0}}
        span = {"indices": {"start": 0, "stop": len(ANGLES)}, "seq_nums": {"start": 1, "stop": len(ANGLES) + 1}}
        yield "stream_datum", {"uid": f"{run}-s", "stream_resource": resource, "descriptor": descriptor, **span}
        yield "stop", {"uid": f"{run}-e", "run_start": run, "exit_status": "success", "time": 3.0}


def write(path):
    images = np.random.default_rng(0).random((len(ANGLES), *SHAPE), np.float32)
    with h5py.File(path, "w") as file:
        file["data"] = images
    return path


def lives(service, root):
    """A scan whose file is in order ends as it should."""
    scan = FileScan(f"file://localhost{write(root / f'{uuid.uuid4().hex}.h5')}")
    service.publish(*scan.documents())
    assert service.ended(scan.key)["frames_used"] == len(ANGLES)


def log_of(service, until, word):
    """Ingest's note with this word in it."""
    return until(lambda: next((note for note in service.ingest().get("notes", []) if word in note), None), word)


@pytest.mark.parametrize("way", ["outside", "dots", "link", "percent"])
def test_a_file_outside_the_roots_is_never_opened(watched, root, tmp_path, until, way):
    secret = write(tmp_path / "secret.h5")
    link = root / f"link-{way}.h5"
    link.symlink_to(secret)
    up = "../" * len(root.parts)
    path = {
        "outside": secret,
        "dots": f"{root}/{up}{str(secret)[1:]}",
        "link": link,
        "percent": f"{root}/{up.replace('.', '%2e')}{str(secret)[1:]}",
    }[way]
    scan = FileScan(f"file://localhost{path}")
    watched.publish(*scan.documents())
    metadata = watched.ended(scan.key, "failed")
    assert "no projection was stored" in metadata["reason"]
    assert "documents.roots" in metadata["reason"]
    assert any(scan.uid[:8] in told for told in watched.ingest()["files"]["unreadable"])
    assert watched.reader(scan.key).acquisition().received["unreadable"] == len(ANGLES)


@pytest.mark.parametrize(
    ("uri", "mimetype", "words"),
    [
        ("http://localhost/scan.h5", "application/x-hdf5", "only files are read"),
        ("file://localhost/data/scan.dat", "application/x-unheard-of", "application/x-unheard-of"),
    ],
)
def test_other_hosts_and_unknown_kinds_of_files_are_refused_by_name(watched, root, until, uri, mimetype, words):
    scan = FileScan(uri, mimetype)
    watched.publish(*scan.documents())
    watched.ended(scan.key, "failed")
    log_of(watched, until, words)
    lives(watched, root)


def test_a_share_of_another_host_that_nobody_mapped_is_told_of_with_the_setting(watched, root):
    scan = FileScan("file://evil.example.org/data/scan.h5")
    watched.publish(*scan.documents())
    reason = watched.ended(scan.key, "failed")["reason"]
    assert "//evil.example.org/data/scan.h5 is on another machine" in reason
    assert "documents.path_map" in reason
    lives(watched, root)


def test_a_file_that_never_becomes_readable_is_waited_for_and_then_given_up(watched, root, until):
    path = root / "never.h5"
    path.write_bytes(b"not yet")
    scan = FileScan(f"file://localhost{path}")
    watched.publish(*scan.documents())
    waits = until(
        lambda: watched.ingest().get("files", {}).get("waits_for", {}).get(scan.uid), "the reason of the wait"
    )
    assert "never.h5" in waits
    metadata = watched.ended(scan.key, "failed")
    assert "never.h5" in metadata["reason"]
    assert "documents.file_wait_s" in metadata["reason"]
    lives(watched, root)


def test_a_file_that_comes_late_is_read_when_it_is_there(watched, root, until):
    path = root / "late.h5"
    scan = FileScan(f"file://localhost{path}")
    watched.publish(*scan.documents())
    until(lambda: scan.uid in watched.ingest().get("files", {}).get("waits_for", {}), "the wait")
    write(root / "being-written.tmp").rename(path)
    assert watched.ended(scan.key)["frames_used"] == len(ANGLES)
