"""Every kind of stored file is damaged in mid-scan, with the worker killed: the right volume without what is gone, or a
stated failure."""

from __future__ import annotations

import os

import httpx
import numpy as np
import pytest

from pfitre_service.client import connect
from pfitre_service.errors import StoreError

pytestmark = pytest.mark.slow

POINTS, BEFORE = 26, 18
LOST = 5
"""The event whose frame is damaged; it lies in the row before."""


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


FRAME, LAYOUT = f"projections/c.{LOST - 1}.0.0", "projections/zarr.json"
DAMAGE = {
    "frame cut": (FRAME, cut),
    "frame removed": (FRAME, remove),
    "frame flipped": (FRAME, flip),
    "layout of the frames removed": (LAYOUT, remove),
    "layout of the frames cut": (LAYOUT, cut),
    "flat flipped": ("flats/c.1.0.0", flip),
    "dark removed": ("darks/c.0.0.0", remove),
    "result removed": ("volume/c/0/0/0", remove),
    "result flipped": ("physics/c/0/0/0", flip),
    "layout of the result removed": ("volume/zarr.json", remove),
}


class Scan:
    """A scan of which something may be missing from the start, and something damaged in the middle."""

    def __init__(self, documents, *, transmission=False, without=(), damage=None):
        self.run = documents(fluorescence=not transmission)
        self.key, self.damage = self.run.key, damage
        self._without, self._transmission = without, transmission

    def event(self, number):
        gone = self._without == "frame" and number == LOST
        return self.run.event(number, np.full_like(self.run.image(number), np.nan) if gone else None)

    def first_part(self):
        yield self.run.start()
        if self._transmission:
            flats, darks = self.run.references("flat", 3), self.run.references("dark", 1)
            yield from (one for place, one in enumerate(flats) if not (self._without == "flat" and place == 2))
            yield from ([] if self._without == "dark" else darks)
        yield self.run.descriptor()
        yield from (self.event(number) for number in range(1, BEFORE + 1))

    def second_part(self):
        yield from (self.event(number) for number in range(BEFORE + 1, POINTS + 1))
        yield self.run.stop(POINTS)


@pytest.fixture(scope="module")
def service(tmp_path_factory, start_service):
    with start_service(tmp_path_factory.mktemp("damaged")) as service:
        yield service


@pytest.fixture(scope="module")
def scans(service, documents, until):
    """All of them at the same time, in one service whose worker is killed once; at their ends."""
    of = {
        "whole": Scan(documents),
        "whole transmission": Scan(documents, transmission=True),
        "without frame": Scan(documents, without="frame"),
        "without flat": Scan(documents, transmission=True, without="flat"),
        "without dark": Scan(documents, transmission=True, without="dark"),
        **{
            name: Scan(documents, transmission=name.startswith(("flat", "dark")), damage=damage)
            for name, damage in DAMAGE.items()
        },
    }
    for scan in of.values():
        service.publish(*scan.first_part())
    for name, scan in of.items():
        until(
            lambda key=scan.key: service.revision(key) >= 2 and service.stored(key) == BEFORE, f"{name} in the middle"
        )
    until(lambda: all(service.reader(scan.key).result("physics") for scan in of.values()), "results beside the volume")
    killed = service.kill("worker")
    for name, scan in of.items():
        if scan.damage is not None:
            path, hurt = scan.damage
            hurt(service.settings.data_dir / "data" / "tomograms" / scan.run.uid / path)
    for scan in of.values():
        service.publish(*scan.second_part())
    service.ready_again("worker", killed)
    return of


def volume_of(service, scan):
    service.ended(scan.key)
    return service.reader(scan.key).volume()


def is_the_same(volume, expected):
    np.testing.assert_allclose(volume, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("how", ["cut", "removed", "flipped"])
def test_a_damaged_frame_is_left_out_and_named_and_the_volume_is_the_one_without_it(service, scans, how):
    scan = scans[f"frame {how}"]
    metadata = service.ended(scan.key)
    assert metadata["frames_used"] == POINTS - 1
    assert metadata["frames_damaged"] == 1
    named = f"projection {LOST - 1}, run {scan.run.uid[:8]}, seq_num {LOST}: "
    assert metadata["reason"].startswith(f"{POINTS - 1} of {POINTS} projections used, 1 damaged in the store")
    assert named in metadata["reason"]
    assert any(f"seq_num {LOST}: " in warning and FRAME[-7:] in warning for warning in metadata["warnings"])
    is_the_same(volume_of(service, scan), volume_of(service, scans["without frame"]))


@pytest.mark.parametrize("how", ["removed", "cut"])
def test_the_layout_of_the_frames_is_mended_by_the_next_frame(service, scans, how):
    scan = scans[f"layout of the frames {how}"]
    assert service.ended(scan.key)["frames_used"] == POINTS
    is_the_same(volume_of(service, scan), volume_of(service, scans["whole"]))


@pytest.mark.parametrize(("name", "other"), [("flat flipped", "without flat"), ("dark removed", None)])
def test_a_damaged_reference_is_named_and_where_none_is_left_nothing_is_made_up(service, scans, name, other):
    scan = scans[name]
    if other is None:
        reason = service.ended(scan.key, "failed")["reason"]
        assert f"all 1 darks are damaged in the store, the first: run {scan.run.uid[:8]}, seq_num 1: " in reason
        return
    metadata = service.ended(scan.key)
    note = f"flat 1 was left out: run {scan.run.uid[:8]}, seq_num 2: "
    assert metadata["warnings"][0].startswith(note)
    is_the_same(volume_of(service, scan), volume_of(service, scans[other]))


@pytest.mark.parametrize("name", ["result removed", "result flipped"])
def test_a_damaged_result_is_written_over_by_the_worker_that_comes(service, scans, name):
    is_the_same(volume_of(service, scans[name]), volume_of(service, scans["whole"]))
    physics, expected = (service.reader(scans[one].key).physics() for one in (name, "whole"))
    is_the_same(physics, expected)


def test_a_result_that_cannot_be_written_any_more_is_a_stated_failure(service, scans):
    reason = service.ended(scans["layout of the result removed"].key, "failed")["reason"]
    assert "its results cannot be written" in reason
    assert "volume is damaged: zarr.json is missing" in reason


@pytest.mark.parametrize("how", [cut, remove, flip])
def test_a_result_that_is_damaged_afterwards_comes_out_nowhere(service, scans, pfitre, arguments_for, tmp_path, how):
    scan = scans["whole"]
    service.ended(scan.key)
    path = service.settings.data_dir / "data" / "tomograms" / scan.run.uid / "volume" / "c" / "0" / "0" / "0"
    kept = path.read_bytes()
    how(path)
    try:
        with connect(service.url) as client, pytest.raises(StoreError, match=r"damaged: c/0/0/0 .*reconstruct"):
            client.open_volume(scan.run.uid)
        page = httpx.get(
            f"{service.url}/api/v1/array/full/tomograms/{scan.run.uid}/volume",
            params={"slice": ":,5,:", "format": "application/octet-stream"},
        )
        assert page.status_code == 410
        assert "damaged: c/0/0/0" in page.json()["detail"]
        for command, end in (("export", "h5"), ("export", "tif"), ("report", "html")):
            to = tmp_path / f"{how.__name__}.{end}"
            done = pfitre(command, scan.run.uid, "--to", str(to), *server_of(service))
            assert done.returncode == 3, done.stderr
            assert "is damaged: c/0/0/0" in done.stderr
            assert "Traceback" not in done.stderr
            assert not to.exists()
    finally:
        path.write_bytes(kept)


def server_of(service):
    return ("--server", service.url)


@pytest.mark.parametrize(("database", "hurt"), [("catalog.db", remove), ("tables.db", cut)])
def test_a_database_that_is_damaged_in_mid_scan_is_an_error_that_status_tells(
    tmp_path_factory, start_service, documents, until, pfitre, arguments_for, database, hurt
):
    scan = Scan(documents)
    with start_service(tmp_path_factory.mktemp("databases")) as service:
        service.publish(*scan.first_part())
        until(lambda: service.revision(scan.key) >= 2 and service.stored(scan.key) == BEFORE, "the middle of the scan")
        service.kill("worker")
        path = service.settings.data_dir / database
        hurt(path)
        service.publish(*scan.second_part())
        said = until(
            lambda: (report := service.health("tiled")) and report.state == "degraded" and report.reason, "word"
        )
        assert f"the database {path} is damaged: " in said
        until(lambda: (report := service.health("ingest")) and report.state == "waiting", "ingest that waits")
        assert service.health("ingest").details["store"]["refused_frames"] == 0
        status = pfitre("status", *arguments_for(service.settings), COLUMNS="300")
        assert status.returncode == 1, status.stdout
        assert f"{database} is damaged" in status.stdout
        for ask in (service.catalog.keys, service.catalog.summaries):
            with pytest.raises(StoreError, match="is damaged"):
                ask()
