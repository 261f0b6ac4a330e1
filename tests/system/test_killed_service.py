"""The whole service ends in mid-scan, in order or not, and is started again: what it heard is stored."""

from __future__ import annotations

import signal

import pytest

from pfitre_service.supervision.health import fetch_health

pytestmark = pytest.mark.slow


@pytest.fixture
def serve(start_pfitre, own_settings, arguments_for, until):
    """Starts `pfitre serve` on the same folder and ports each time."""

    def start():
        arguments = arguments_for(own_settings)
        command = start_pfitre(
            "serve", "--data-dir", str(own_settings.data_dir), *arguments, "--set=worker.publish_interval_s=0.1"
        )
        address = own_settings.health.supervisor
        until(lambda: (report := fetch_health(address)) and report.state == "ok", "the start of the service", 90)
        return command

    return start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_service_that_ends_in_mid_scan_goes_on_where_it_was(serve, own_settings, connect, documents, until, number):
    command = serve()
    with connect(own_settings) as service:
        scan = documents()
        service.publish(scan.start(), scan.descriptor(), *(scan.event(one) for one in range(1, 13)))
        until(lambda: [run["projections"] for run in service.ingest()["open_runs"]] == [12], "what was sent is heard")
        command.process.send_signal(number)
        command.process.wait(30)
        until(lambda: not command.left_over(0.1), "the end of every process")
        service.publish(*(scan.event(one) for one in range(13, 20)))  # its publisher keeps them
        serve()
        service.publish(*(scan.event(one) for one in range(20, 27)), scan.stop(26))
        assert service.ended(scan.key)["frames_used"] == 26
        acquisition = service.reader(scan.key).acquisition()
        assert (acquisition.state, acquisition.received["missing"]) == ("complete", {})
        until(lambda: (spool := service.ingest()["spool"])["settled"] == spool["next_message"], "an empty spool")
        assert len(list((own_settings.data_dir / "spool").glob("*.spool"))) == 1


def test_frames_that_wait_for_the_catalogue_survive_the_end_of_ingest(serve, own_settings, connect, documents, until):
    serve()
    with connect(own_settings) as service:
        scan = documents()
        service.publish(scan.start(), scan.descriptor(), *(scan.event(one) for one in range(1, 5)))
        until(lambda: service.stored(scan.key) == 4, "four stored frames")
        arrays, aside = own_settings.data_dir / "data", own_settings.data_dir / "aside"
        arrays.rename(aside)
        arrays.write_text("no place for arrays any more")
        try:
            service.publish(*(scan.event(one) for one in range(5, 27)), scan.stop(26))
            until(lambda: service.ingest()["store"]["waiting_frames"] > 0, "frames that wait")
            service.ready_again("ingest", service.kill("ingest"))
        finally:
            arrays.unlink()
            aside.rename(arrays)
        assert service.ended(scan.key)["frames_used"] == 26
        assert service.reader(scan.key).acquisition().received["missing"] == {}
