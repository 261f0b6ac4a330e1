"""`pfitre_service.client` beside a live scan: what a script sees, and a plain Tiled client beside it."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from tiled.client import from_uri

from pfitre_service.client import WatchTimeoutError, connect
from pfitre_service.errors import StoreMissingError, StoreUnavailableError
from pfitre_service.model import TomogramKey

pytestmark = pytest.mark.slow

PIXEL_NM = 12.5
ROWS, SIZE = 12, 32


@pytest.fixture
def client(service):
    with connect(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def sent(documents):
    """The documents of a run with pixels of PIXEL_NM."""
    return documents(pixel_size_nm=PIXEL_NM).whole()


@pytest.fixture(scope="module")
def finished(service, sent):
    """The id of its tomogram, which is final."""
    service.publish(*sent)
    uid = sent[0][1]["uid"]
    service.ended(TomogramKey(uid))
    return uid


@pytest.fixture(scope="module")
def plain(service):
    """A Tiled client that knows nothing of this package."""
    client = from_uri(service.url)
    yield client
    client.context.close()


def test_a_watched_scan_shows_volume_after_volume_and_then_the_final_one(service, client, RE, small_scan):
    scan, seen = small_scan(exposure_s=0.1), []
    started = threading.Event()
    uids = []

    def on_start(name, document):
        uids.append(document["uid"])
        started.set()

    def look():
        assert started.wait(30)
        seen.extend(client.watch(uids[0], timeout_s=60, poll_s=0.05))

    watcher = threading.Thread(target=look)
    watcher.start()
    RE.subscribe(service.publisher)
    RE.subscribe(on_start, "start")
    RE(scan.plan())
    watcher.join(90)
    assert not watcher.is_alive()
    numbers = [revision.number for revision in seen]
    used = [revision.angles_used for revision in seen]
    assert len(set(numbers)) >= 3
    assert numbers == sorted(numbers)
    assert used == sorted(used)
    assert used[0] < used[-1] == 26
    assert [revision.ended for revision in seen] == [False] * (len(seen) - 1) + [True]
    last = seen[-1]
    assert (last.tomogram, last.status, last.phase) == (uids[0], "final", "final")
    assert "26 of 26 projections used" in last.reason
    assert 0 < last.residual < 1
    assert math.isfinite(last.heldout_error)


def test_watching_outlives_a_server_that_is_killed_and_comes_back(start_service, documents, tmp_path):
    with start_service(tmp_path) as service, connect(service.url) as client:
        scan = documents()
        first, rest = scan.whole()[:14], scan.whole()[14:]
        service.publish(*first)
        watching = client.watch(scan.key.id, timeout_s=90, poll_s=0.05)
        before = next(watching)
        assert not before.ended
        killed = service.kill("tiled")
        with pytest.raises(StoreUnavailableError):
            client.open_volume(scan.key.id)
        service.publish(*rest)
        after = list(watching)
        assert service.health("tiled").pid != killed
        assert after[-1].status == "final"
        assert after[-1].number > before.number
        assert after[-1].angles_used == 26
        assert client.open_volume(scan.key.id).attrs["revision"] == after[-1].number


def test_watching_a_tomogram_that_is_final_gives_that_and_ends(client, finished):
    (only,) = client.watch(finished)
    assert (only.status, only.ended) == ("final", True)
    assert only.number == client.open_volume(finished).attrs["revision"]


def test_nothing_to_see_for_too_long_is_an_error_that_says_why(client, service, documents):
    with pytest.raises(WatchTimeoutError, match=r"within 0\.3 s, but the catalogue has no tomogram of this name"):
        next(client.watch("no-such-run", timeout_s=0.3, poll_s=0.05))
    scan = documents()
    service.publish(*scan.whole()[:3])  # one projection makes no volume
    with pytest.raises(WatchTimeoutError, match=r"no volume yet|no tomogram of this name"):
        list(client.watch(scan.key.id, timeout_s=2, poll_s=0.05))
    service.publish(scan.stop(1))


def test_a_scan_that_fails_ends_the_watch_with_its_reason(client, service, documents):
    scan = documents()
    service.publish(scan.start(), scan.descriptor(), scan.stop(0))
    *_, last = client.watch(scan.key.id, timeout_s=60, poll_s=0.05)
    assert (last.status, last.number, last.heldout_error) == ("failed", None, None)
    assert "no projection" in last.reason


def test_volumes_open_with_nanometres_and_where_they_come_from(client, finished, service):
    volume, physics, expected_error = (
        opened(finished) for opened in (client.open_volume, client.open_physics, client.open_expected_error)
    )
    assert volume.dims == ("z", "y", "x")
    assert volume.shape == physics.shape == expected_error.shape == (ROWS, SIZE, SIZE)
    np.testing.assert_allclose(volume.z, PIXEL_NM * np.arange(ROWS))
    for across in (volume.y, volume.x):
        np.testing.assert_allclose(across, PIXEL_NM * (np.arange(SIZE) - (SIZE - 1) / 2))
    assert {volume[dim].attrs["units"] for dim in volume.dims} == {"nm"}
    assert volume.attrs["voxel_size"] == [PIXEL_NM] * 3
    assert volume.attrs["run_uids"] == finished
    assert volume.attrs["prior"]
    assert volume.attrs["source"] == service.url
    assert (volume.name, physics.name, expected_error.name) == ("volume", "physics", "expected_error")
    assert float(expected_error.min()) >= 0
    assert not np.array_equal(volume, physics)


def test_a_volume_can_be_saved_as_netcdf_with_all_that_is_known_of_it(client, finished, tmp_path):
    import xarray

    volume = client.open_volume(finished)
    volume.to_netcdf(tmp_path / "volume.nc", engine="scipy")
    with xarray.open_dataarray(tmp_path / "volume.nc", engine="scipy") as saved:
        np.testing.assert_array_equal(saved, volume)
        assert saved.attrs["tomogram"] == finished
        assert saved.attrs.keys() == volume.attrs.keys()


def test_projections_open_with_their_angles_in_degrees(client, finished, sent):
    projections = client.open_projections(finished)
    assert projections.dims == ("angle", "row", "column")
    assert projections.angle.attrs["units"] == "degree"
    np.testing.assert_allclose(projections.angle, np.linspace(-50, 50, 26))
    np.testing.assert_allclose(projections.column, PIXEL_NM * np.arange(SIZE))
    images = [document["data"]["camera"] for name, document in sent if name == "event"]
    np.testing.assert_array_equal(projections, np.stack(images))
    assert not projections.withdrawn.any()
    assert projections.attrs["measurement"] == "line_integral"


def test_without_a_pixel_size_coordinates_are_pixels_and_say_so(client, service, documents):
    scan = documents()
    service.publish(*scan.whole())
    service.ended(scan.key)
    volume = client.open_volume(scan.key.id)
    assert volume.attrs["voxel_size_unit"] == volume.x.attrs["units"] == "pixel"
    np.testing.assert_allclose(volume.x, np.arange(SIZE) - (SIZE - 1) / 2)


def test_a_lazy_volume_is_the_same_and_fetches_when_computed(client, finished):
    whole, lazy = client.open_volume(finished), client.open_volume(finished, lazy=True)
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy[5], whole[5])
    assert lazy.identical(whole) or lazy.compute().identical(whole)


def test_a_plain_tiled_client_reads_the_same(client, finished, plain):
    tomogram = plain["tomograms"][finished]
    for name in ("volume", "physics", "expected_error"):
        np.testing.assert_array_equal(tomogram[name].read(), getattr(client, f"open_{name}")(finished))
    frames = tomogram["frames"].read()
    np.testing.assert_array_equal(frames["angle"], client.open_projections(finished).angle)
    assert finished in client.tomograms()


def test_what_is_not_there_is_named(client):
    with pytest.raises(StoreMissingError, match="no-such-run"):
        client.open_volume("no-such-run")
    with pytest.raises(StoreMissingError, match="no-such-run"):
        client.open_projections("no-such-run")
