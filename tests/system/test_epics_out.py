"""Slices and status as process variables: a real service, a live scan, a real PV Access client, all on loopback."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from p4p.client.thread import Context, RemoteError

from pfitre_service.addresses import free_ports
from pfitre_service.model import TomogramKey

pytestmark = pytest.mark.slow

ROWS, SIZE = 12, 32
PREFIX = "test:pfitre:"
NONE, MINOR, MAJOR, INVALID = range(4)


class Client:
    """What an operator's program sees: it knows the address and the prefix, and nothing of this package."""

    def __init__(self, address: str) -> None:
        conf = {
            "EPICS_PVA_NAME_SERVERS": address,
            "EPICS_PVA_ADDR_LIST": "",
            "EPICS_PVA_AUTO_ADDR_LIST": "NO",
            "EPICS_PVA_INTF_ADDR_LIST": "127.0.0.1",
            "EPICS_PVA_BROADCAST_PORT": address.rpartition(":")[2],
        }
        self.context = Context("pva", conf=conf, useenv=False)

    def get(self, name):
        return self.context.get(PREFIX + name, timeout=20)

    def put(self, name, value):
        self.context.put(PREFIX + name, value, timeout=20)

    def alarm(self, name):
        """(severity, message)."""
        alarm = self.get(name).raw.alarm
        return alarm.severity, alarm.message

    def is_of(self, name="SliceZ"):
        """(tomogram, revision) of a picture."""
        attributes = self.get(name).attrib
        return attributes.get("tomogram"), attributes.get("revision")

    @contextlib.contextmanager
    def following(self, name):
        """Every update of a variable, as they come."""
        seen = []
        subscription = self.context.monitor(PREFIX + name, seen.append)
        try:
            yield seen
        finally:
            subscription.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory, start_service):
    # A port of its own for the whole life of the service: a client looks for a server that went where it was.
    epics = {"prefix": PREFIX, "port": free_ports(1)[0], "search_port": 0, "poll_interval_s": 0.05}
    with start_service(tmp_path_factory.mktemp("service"), {"epics": epics, "prior": {"name": "tv"}}) as service:
        yield service


@pytest.fixture
def client(service):
    client = Client(service.health("epics").details["address"])
    yield client
    client.context.close()


def test_before_the_first_tomogram_everything_is_there_and_says_so(client, until):
    until(lambda: client.alarm("Status") == (INVALID, "there is no tomogram yet"), "a first look")
    assert client.get("Status") == "none"
    assert client.get("SliceX").shape == (1, 1)
    assert client.alarm("SliceX") == (INVALID, "there is no tomogram yet")
    with pytest.raises(RemoteError, match="there is no volume yet, so no slice to choose"):
        client.put("Z", 0)


def test_the_slices_sharpen_while_a_scan_runs_and_end_as_the_volume_in_tiled(
    service, client, RE, small_scan, at_projection, until
):
    started, live = [], [0]

    def pictures():
        return [picture for picture in seen if picture.attrib.get("tomogram") in started]

    def newer():
        """The scan waits here for a picture that was not there the last time."""
        live.append(
            until(lambda: max((p.raw.uniqueId for p in pictures() if p.raw.uniqueId > live[-1]), default=0), "it")
        )

    RE.subscribe(service.publisher)
    RE.subscribe(lambda name, document: started.append(document["uid"]), "start")
    RE.subscribe(at_projection(dict.fromkeys((8, 14, 20, 25), newer)))
    with client.following("SliceZ") as seen:
        (uid,) = RE(small_scan().plan(), pixel_size_nm=12.5)
        metadata = service.ended(TomogramKey(uid))
        until(lambda: seen[-1].attrib.get("revision") == service.revision(TomogramKey(uid)), "the last revision")
        found = pictures()
    assert len(live) == 5
    revisions = [picture.raw.uniqueId for picture in found]
    assert revisions == sorted(revisions)
    assert revisions == [picture.attrib["revision"] for picture in found]
    assert not np.array_equal(found[0], found[-1])
    volume = service.reader(TomogramKey(uid)).volume()
    np.testing.assert_array_equal(client.get("SliceZ"), volume[ROWS // 2])
    np.testing.assert_array_equal(client.get("SliceY"), volume[:, SIZE // 2])
    np.testing.assert_array_equal(client.get("SliceX"), volume[:, :, SIZE // 2])
    told = client.get("SliceY")
    assert [size.size for size in told.raw.dimension] == [SIZE, ROWS]
    assert told.dtype == np.float32
    assert told.attrib == {
        "tomogram": uid,
        "axis": "y",
        "index": SIZE // 2,
        "revision": revisions[-1],
        "pixel_size_nm": 12.5,
    }
    assert metadata["status_time"] - 60 < told.raw.dataTimeStamp.secondsPastEpoch <= metadata["status_time"]


@pytest.fixture(scope="module")
def finished(service, documents):
    """The key of a final tomogram."""
    scan = documents()
    service.publish(*scan.whole())
    service.ended(scan.key)
    return scan.key


@pytest.fixture
def shown(service, client, finished):
    """Its reader; the client has chosen it, and the newest again afterwards."""
    client.put("Tomogram", finished.id)
    assert client.is_of() == (finished.id, service.revision(finished))
    yield service.reader(finished)
    client.put("Tomogram", "")


def test_the_scalars_say_what_the_catalogue_says(service, client, shown):
    metadata = shown.metadata()
    assert (client.get("Showing"), client.get("Status")) == (shown.key.id, "final")
    assert client.get("Reason") == metadata["reason"]
    assert client.get("Sentence") == metadata["quality"]["sentence"] != ""
    assert client.get("Revision") == service.revision(shown.key) > 0
    assert client.get("AnglesUsed") == 26
    assert client.get("HeldoutError") == metadata["progress"]["heldout_error"] > 0
    severity, message = client.alarm("Status")
    if metadata["warnings"]:
        assert severity == MINOR
        assert message.startswith(metadata["warnings"][0][:150])
    else:
        assert (severity, message) == (NONE, "")
    assert client.alarm("SliceZ") == (severity, message)


def test_another_index_shows_another_slice_and_leaves_the_others(client, shown):
    volume = shown.volume()
    for name, axis, index in (("Z", 0, 3), ("Y", 1, 0), ("X", 2, SIZE - 1)):
        client.put(name, index)
        picture = client.get(f"Slice{name}")
        np.testing.assert_array_equal(picture, np.take(volume, index, axis))
        assert picture.attrib["index"] == client.get(name) == index
    np.testing.assert_array_equal(client.get("SliceZ"), volume[3])
    limits = client.get("Z").raw.control
    assert (limits.limitLow, limits.limitHigh) == (0, ROWS - 1)
    for name, middle in (("Z", ROWS // 2), ("Y", SIZE // 2), ("X", SIZE // 2)):
        client.put(name, middle)


@pytest.mark.parametrize("index", [-1, ROWS, 10_000])
def test_an_index_that_is_none_is_refused_with_the_limits_and_changes_nothing(client, shown, index):
    client.put("Z", 5)
    with pytest.raises(RemoteError, match=rf"Z must be 0 to 11 \(12 slices\); got {index}, and 5 stays"):
        client.put("Z", index)
    assert client.get("Z") == 5
    np.testing.assert_array_equal(client.get("SliceZ"), shown.volume()[5])


@pytest.mark.parametrize("name", ["SliceZ", "Status", "Revision", "HeldoutError", "Sentence", "Showing"])
def test_what_is_shown_cannot_be_put(client, shown, name):
    value = np.zeros((2, 2), np.float32) if name == "SliceZ" else 1
    with pytest.raises(RemoteError, match="Put not supported"):
        client.put(name, value)


def test_only_the_value_of_an_index_can_be_put(client, shown):
    with pytest.raises(RemoteError, match="only the value of Z can be put"):
        client.put("Z", {"alarm.severity": 3})
    assert client.alarm("Z") == (NONE, "")


def test_an_older_tomogram_is_shown_by_its_id_until_the_newest_is_asked_for(service, client, shown, documents):
    scan = documents()
    service.publish(*scan.whole())
    service.ended(scan.key)
    client.put("Z", 2)  # a turn of the server, in which it would show the newer one
    assert client.is_of()[0] == client.get("Showing") == client.get("Tomogram") == shown.key.id
    np.testing.assert_array_equal(client.get("SliceZ"), shown.volume()[2])
    client.put("Tomogram", "")
    assert client.is_of() == (scan.key.id, service.revision(scan.key))
    assert client.get("Showing") == scan.key.id


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no-such-run", "the catalogue has no no-such-run"), ("../x", "must be 1 to 100 letters")],
)
def test_a_tomogram_that_is_none_is_refused(client, shown, name, reason):
    with pytest.raises(RemoteError, match=reason):
        client.put("Tomogram", name)
    assert client.get("Tomogram") == client.is_of()[0] == shown.key.id


def test_a_scan_that_fails_is_an_alarm_and_the_picture_says_that_it_is_of_another(service, client, documents, until):
    good, bad = documents(), documents()
    service.publish(*good.whole())
    service.ended(good.key)
    until(lambda: client.is_of() == (good.key.id, service.revision(good.key)), "its picture")
    before = client.get("SliceZ")
    service.publish(bad.start(), bad.descriptor(), bad.stop(0))
    reason = service.ended(bad.key, "failed")["reason"]
    until(lambda: client.get("Status") == "failed", "the news")
    assert client.alarm("Status") == (MAJOR, reason)
    assert (client.get("Showing"), client.get("Revision")) == (bad.key.id, 0)
    assert math.isnan(client.get("HeldoutError"))
    severity, message = client.alarm("SliceZ")
    assert severity == INVALID
    assert f"{bad.key} has no volume (failed); this is tomogram {good.key}" in message
    np.testing.assert_array_equal(client.get("SliceZ"), before)


def test_while_the_catalogue_is_away_the_last_picture_stays_with_an_alarm(service, client, shown, until):
    before, calm = client.get("SliceZ"), client.alarm("SliceZ")
    pid = service.health("epics").pid
    killed = service.kill("tiled")
    until(lambda: client.alarm("SliceZ")[0] == INVALID, "the alarm")
    assert client.alarm("SliceZ")[1].startswith("may be old, the catalogue cannot be read: ")
    assert client.alarm("Status")[0] == client.alarm("Revision")[0] == INVALID
    assert client.get("Status") == "final"
    np.testing.assert_array_equal(client.get("SliceZ"), before)
    client.put("Z", 1)  # is kept until it can be shown
    with pytest.raises(RemoteError, match="the catalogue cannot be asked for another now"):
        client.put("Tomogram", "another")
    service.ready_again("tiled", killed)
    until(lambda: client.alarm("SliceZ") == calm, "its return")
    np.testing.assert_array_equal(client.get("SliceZ"), shown.volume()[1])
    assert service.health("epics").pid == pid, "nothing but the catalogue had to be started again"


def test_a_client_goes_on_where_the_process_was_killed_and_started_again(service, client, shown, until):
    with client.following("SliceZ") as seen:
        until(lambda: seen, "a first picture")
        killed = service.kill("epics")
        service.ready_again("epics", killed)
        begin = len(seen)
        until(lambda: len(seen) > begin, "an update from its successor")
        client.put("Tomogram", shown.key.id)
        until(lambda: seen[-1].attrib.get("tomogram") == shown.key.id, "its picture again")
    np.testing.assert_array_equal(client.get("SliceZ"), shown.volume()[ROWS // 2])
