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

POINTS, BEFORE = 16, 10
LOST = (4, 5, 7)
"""Events whose frames are damaged; each lies in the row before."""


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


DAMAGE = {
    "frames": {f"projections/c.{event - 1}.0.0": how for event, how in zip(LOST, (cut, remove, flip), strict=True)},
    "layout of the frames": {"projections/zarr.json": remove},
    "flat": {"flats/c.1.0.0": flip},
    "dark": {"darks/c.0.0.0": remove},
    "results": {"volume/c/0/0/0": remove, "physics/c/0/0/0": flip},
    "layout of a result": {"volume/zarr.json": remove},
}


class Scan:
    """A scan of which something may be missing from the start, and something damaged in the middle."""

    def __init__(self, documents, *, transmission=False, without=(), damage=()):
        self.run = documents(fluorescence=not transmission)
        self.key, self.damage = self.run.key, damage
        self._without, self._transmission = without, transmission

    def event(self, number):
        gone = self._without == "frames" and number in LOST
        return self.run.event(number, np.full_like(self.run.image(number), np.nan) if gone else None)

    def first_part(self):
        yield self.run.start()
        if self._transmission:
            flats, darks = self.run.references("flat", 3), self.run.references("dark", 1)
            yield from (one for place, one in enumerate(flats) if not (self._without == "flat" and place == 2))
            yield from darks
        yield self.run.descriptor()
        yield from (self.event(number) for number in range(1, BEFORE + 1))

    def second_part(self):
        yield from (self.event(number) for number in range(BEFORE + 1, POINTS + 1))
        yield self.run.stop(POINTS)


@pytest.fixture(scope="module")
def service(tmp_path_factory, start_service):
    with start_service(tmp_path_factory.mktemp("damaged"), {"prior": {"name": "tv"}}) as service:
        yield service


@pytest.fixture(scope="module")
def scans(service, documents, until):
    """All of them at the same time, in one service whose worker is killed once; at their ends."""
    of = {
        "whole": Scan(documents),
        "without frames": Scan(documents, without="frames"),
        "without flat": Scan(documents, transmission=True, without="flat"),
        **{
            name: Scan(documents, transmission=name in ("flat", "dark"), damage=damage)
            for name, damage in DAMAGE.items()
        },
    }
    for scan in of.values():
        service.publish(*scan.first_part())
    for name, scan in of.items():
        until(lambda key=scan.key: service.revision(key) >= 2 and service.stored(key) == BEFORE, f"half of {name}")
    until(lambda: all(service.reader(scan.key).result("physics") for scan in of.values()), "results beside the volume")
    killed = service.kill("worker")
    for scan in of.values():
        for path in scan.damage:
            scan.damage[path](service.settings.data_dir / "data" / "tomograms" / scan.run.uid / path)
    for scan in of.values():
        service.publish(*scan.second_part())
    service.ready_again("worker", killed)
    return of


def volume_of(service, scan):
    service.ended(scan.key)
    return service.reader(scan.key).volume()


def is_the_same(volume, expected):
    np.testing.assert_allclose(volume, expected, atol=1e-4 * np.abs(expected).max())


def test_damaged_frames_are_left_out_and_named_and_the_volume_is_the_one_without_them(service, scans):
    scan = scans["frames"]
    metadata = service.ended(scan.key)
    assert metadata["frames_used"] == POINTS - len(LOST)
    assert metadata["frames_damaged"] == len(LOST)
    assert metadata["reason"].startswith(
        f"{POINTS - len(LOST)} of {POINTS} projections used, {len(LOST)} damaged in the store and left out "
        f"(projection {LOST[0] - 1}, run {scan.run.uid[:8]}, seq_num {LOST[0]}: "
    )
    for warning, event, said in zip(
        metadata["warnings"], LOST, ("too short", "cannot be read", "checksum"), strict=False
    ):
        assert warning.startswith(f"projection {event - 1} was left out: run {scan.run.uid[:8]}, seq_num {event}: ")
        assert f"projections/c.{event - 1}.0.0" in warning
        assert said in warning
    is_the_same(volume_of(service, scan), volume_of(service, scans["without frames"]))


def test_the_layout_of_the_frames_is_mended_by_the_next_frame(service, scans):
    scan = scans["layout of the frames"]
    assert service.ended(scan.key)["frames_used"] == POINTS
    is_the_same(volume_of(service, scan), volume_of(service, scans["whole"]))


def test_a_damaged_flat_is_left_out_and_named(service, scans):
    scan = scans["flat"]
    note = f"flat 1 was left out: run {scan.run.uid[:8]}, seq_num 2: "
    assert service.ended(scan.key)["warnings"][0].startswith(note)
    is_the_same(volume_of(service, scan), volume_of(service, scans["without flat"]))


def test_without_any_dark_that_is_whole_nothing_is_made_up(service, scans):
    scan = scans["dark"]
    reason = service.ended(scan.key, "failed")["reason"]
    assert f"all 1 darks are damaged in the store, the first: run {scan.run.uid[:8]}, seq_num 1: " in reason


def test_damaged_results_are_written_over_by_the_worker_that_comes(service, scans):
    is_the_same(volume_of(service, scans["results"]), volume_of(service, scans["whole"]))
    physics, expected = (service.reader(scans[one].key).physics() for one in ("results", "whole"))
    is_the_same(physics, expected)


def test_a_result_that_cannot_be_written_any_more_is_a_stated_failure(service, scans):
    reason = service.ended(scans["layout of a result"].key, "failed")["reason"]
    assert "its results cannot be written" in reason
    assert "volume is damaged: zarr.json is missing" in reason


@pytest.mark.parametrize("how", [cut, remove, flip])
def test_a_result_that_is_damaged_afterwards_comes_out_nowhere(service, scans, pfitre, tmp_path, how):
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
        for command, end in (("export", "h5"), ("report", "html")) if how is flip else (("export", "tif"),):
            to = tmp_path / f"{how.__name__}.{end}"
            done = pfitre(command, scan.run.uid, "--to", str(to), "--server", service.url)
            assert done.returncode == 1, done.stderr
            assert "is damaged: c/0/0/0" in done.stderr
            assert "Traceback" not in done.stderr
            assert not to.exists()
    finally:
        path.write_bytes(kept)


def test_a_database_that_vanishes_in_mid_scan_is_an_error_that_status_tells(
    tmp_path, start_service, documents, until, pfitre, arguments_for
):
    scan = Scan(documents)
    with start_service(tmp_path) as service:
        tables, catalog = service.settings.data_dir / "tables.db", service.settings.data_dir / "catalog.db"

        def is_told_of(database):
            until(
                lambda: (report := service.health("tiled")) and report.state == "degraded", f"a word about {database}"
            )
            assert f"the database {database} is damaged: it was removed" in service.health("tiled").reason
            status = pfitre("status", *arguments_for(service.settings), COLUMNS="300")
            assert status.returncode == 1, status.stdout
            assert f"{database.name} is damaged" in status.stdout
            for ask in (service.catalog.keys, service.catalog.summaries):
                with pytest.raises(StoreError, match=f"{database.name} is damaged"):
                    ask()

        service.publish(*scan.first_part())
        until(lambda: service.revision(scan.key) >= 2 and service.stored(scan.key) == BEFORE, "half of the scan")
        killed = service.kill("worker")
        aside = tables.rename(tables.with_name("aside"))
        is_told_of(tables)
        service.publish(*scan.second_part())
        until(lambda: (report := service.health("ingest")) and report.state == "degraded", "frames in memory alone")
        aside.rename(tables)
        service.ready_again("worker", killed)
        assert service.ended(scan.key)["frames_used"] == POINTS
        catalog.unlink()
        is_told_of(catalog)
