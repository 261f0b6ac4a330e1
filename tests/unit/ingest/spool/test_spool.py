"""The spool: what was appended is read back, whatever happened to the processes, the files, and the disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pfitre_service.errors import ServiceError
from pfitre_service.ingest import SpoolFullError, SpoolReader, SpoolWriter
from pfitre_service.ingest.spool.records import HEAD_BYTES


def writer(folder: Path, most_bytes: int = 1 << 30) -> SpoolWriter:
    return SpoolWriter(folder, most_bytes=most_bytes, sync_ms=5)


def write(folder: Path, *messages: bytes, most_bytes: int = 1 << 30) -> None:
    with writer(folder, most_bytes) as spool:
        for message in messages:
            spool.append("here", [message])


def rest(reader: SpoolReader) -> list[bytes]:
    found = []
    while (record := reader.next(0.0)) is not None:
        found.append(record.message)
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_messages_are_read_as_they_were_heard(tmp_path):
    with writer(tmp_path) as spool, SpoolReader(tmp_path) as reader:
        assert reader.next(0.0) is None
        spool.append("tcp://here", [b"one"])
        spool.append("tcp://there", [b"two", b"parts"])
        spool.append("", [b""])
        first, second, third = (reader.next(0.0) for _ in range(3))
        assert (first.number, first.source, first.parts, first.message) == (0, "tcp://here", 1, b"one")
        assert (second.number, second.source, second.parts, second.message) == (1, "tcp://there", 2, b"twoparts")
        assert (third.number, third.parts, third.message) == (2, 1, b"")
        assert first.time <= second.time <= third.time
        assert reader.next(0.0) is None
        spool.append("here", [b"four"])
        assert reader.next(0.0).message == b"four"


def test_whoever_comes_next_goes_on_at_the_settled_position(tmp_path):
    write(tmp_path, b"a", b"b", b"c")
    with SpoolReader(tmp_path) as reader:
        assert rest(reader) == [b"a", b"b", b"c"]
        reader.settle(1, ["run"])
    write(tmp_path, b"d")
    with SpoolReader(tmp_path) as reader:
        assert (reader.position.number, reader.position.done) == (1, ("run",))
        assert [record.message for record in reader.unsettled(b"c")] == [b"c"]
        assert rest(reader) == [b"b", b"c", b"d"]
        reader.settle(0)
        assert reader.position.number == 1, "never back"


def test_numbers_go_on_when_everything_was_settled_and_freed(tmp_path):
    write(tmp_path, b"a", b"b")
    with SpoolReader(tmp_path) as reader:
        rest(reader)
        reader.settle(2)
    for file in segments(tmp_path):
        file.unlink()
    write(tmp_path, b"c")
    with SpoolReader(tmp_path) as reader:
        assert rest(reader) == [b"c"]
        assert (reader.number, reader.lost) == (3, 0)


@pytest.mark.parametrize("kept", [0, 3, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 100])
def test_a_record_that_a_crash_cut_off_is_named_and_the_others_are_there(tmp_path, caplog, kept):
    write(tmp_path, b"first" * 100)
    (file,) = segments(tmp_path)
    size = file.stat().st_size
    write(tmp_path, b"second" * 100)
    torn = segments(tmp_path)[-1]
    start = size if torn == file else 0
    os.truncate(torn, start + kept)
    with SpoolReader(tmp_path) as reader:
        assert rest(reader) == [b"first" * 100], "what is cut off may still be on its way"
        caplog.clear()
        with writer(tmp_path) as spool:
            assert spool.number == 1
            spool.append("here", [b"third"])
            assert rest(reader) == [b"third"]
    assert ("record 1 was cut off by a crash" in caplog.text) == (kept > 0)


@pytest.mark.parametrize("where", [0, 5, 9, 20, HEAD_BYTES + 2, HEAD_BYTES + 50])
def test_a_record_with_a_flipped_bit_is_named_and_left_out(tmp_path, caplog, where):
    write(tmp_path, *(b"%03d" % number * 40 for number in range(10)))
    (file,) = segments(tmp_path)
    content = bytearray(file.read_bytes())
    content[4 * len(content) // 10 + where] ^= 0x10
    file.write_bytes(content)
    with SpoolReader(tmp_path) as reader:
        found = rest(reader)
        assert found == [b"%03d" % number * 40 for number in range(10) if number != 4]
        assert (reader.lost, reader.number) == (1, 10)
    assert "records 4 to 4 are damaged or gone: 1 messages are lost" in caplog.text


def test_a_damaged_end_of_a_segment_does_not_hold_up_the_next(tmp_path, caplog):
    with writer(tmp_path, 16 * 1000) as spool, SpoolReader(tmp_path) as reader:
        for number in range(6):
            spool.append("here", [bytes([number]) * 600])
        first, second, third = segments(tmp_path)
        for file in (first, second):
            os.truncate(file, file.stat().st_size - 10)
        found = [message[0] for message in rest(reader)]
        assert found == [0, 2, 4, 5]
        assert reader.lost == 2
    assert third.exists()


def test_segments_are_freed_once_everything_in_them_is_settled(tmp_path):
    with writer(tmp_path, 16 * 1000) as spool, SpoolReader(tmp_path) as reader:
        for number in range(7):
            spool.append("here", [bytes([number]) * 600])
        assert [int(file.stem) for file in segments(tmp_path)] == [0, 2, 4, 6]
        reader.next(0.0)
        reader.settle(3)
        assert [int(file.stem) for file in segments(tmp_path)] == [2, 4, 6]
        assert [message[0] for message in rest(reader)] == [1, 2, 3, 4, 5, 6], "what is open is read to its end"
        reader.settle(7)
        assert [int(file.stem) for file in segments(tmp_path)] == [6]


def test_a_full_spool_takes_nothing_and_goes_on_when_there_is_room(tmp_path):
    with writer(tmp_path, 16 * 1000) as spool, SpoolReader(tmp_path) as reader:
        kept = 14
        for _ in range(kept):
            spool.append("here", [b"x" * 990])
        with pytest.raises(SpoolFullError, match="is full"):
            spool.append("here", [b"x" * 4990])
        assert spool.nbytes <= 16 * 1000
        assert len(rest(reader)) == kept
        reader.settle(kept)
        ends_at = time.monotonic() + 10
        while spool.number == kept:  # it looks a few times a second
            assert time.monotonic() < ends_at
            with contextlib.suppress(SpoolFullError):
                spool.append("here", [b"y" * 4990])
        assert rest(reader) == [b"y" * 4990]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_disk_that_refuses_leaves_no_half_record(tmp_path):
    code = f"""
import resource, signal, sys
from pathlib import Path
from pfitre_service.ingest import SpoolFullError, SpoolWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, resource.RLIM_INFINITY))
with SpoolWriter(Path({str(tmp_path)!r}), most_bytes=1 << 30, sync_ms=5) as spool:
    spool.append("here", [b"a" * 1000])
    spool.append("here", [b"b" * 1000])
    try:
        spool.append("here", [b"c" * 1000])
    except SpoolFullError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    spool.append("here", [b"d" * 1000])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be written: [Errno 27] File too large" in done.stdout
    with SpoolReader(tmp_path) as reader:
        assert [message[:1] for message in rest(reader)] == [b"a", b"b", b"d"]
        assert reader.lost == 0


def test_what_append_returned_from_survives_a_kill(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from pfitre_service.ingest import SpoolWriter
spool = SpoolWriter(Path({str(tmp_path)!r}), most_bytes=1 << 30, sync_ms=10_000)
for number in range(1000):
    spool.append("here", [b"%d" % number])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    with SpoolReader(tmp_path) as reader:
        assert rest(reader) == [b"%d" % number for number in range(1000)]


def test_there_is_one_writer_and_one_reader(tmp_path):
    with writer(tmp_path), SpoolReader(tmp_path) as reader:
        assert reader.has_writer
        with pytest.raises(ServiceError, match="has a writer already"):
            writer(tmp_path)
        with pytest.raises(ServiceError, match="has a reader already"):
            SpoolReader(tmp_path)
    with SpoolReader(tmp_path) as reader:
        assert not reader.has_writer


def test_a_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match=r"the spool's folder .*file cannot be used"):
        writer(tmp_path / "file")


def test_a_position_that_cannot_be_read_means_from_the_beginning(tmp_path):
    write(tmp_path, b"a", b"b")
    (tmp_path / "position.json").write_text('{"number": 1')
    with SpoolReader(tmp_path) as reader:
        assert rest(reader) == [b"a", b"b"]


def test_a_record_that_three_processes_died_of_is_left_out(tmp_path, caplog):
    write(tmp_path, b"good", b"deadly", b"good too")
    for _ in range(3):
        reader = SpoolReader(tmp_path)
        good, deadly = reader.next(0.0), reader.next(0.0)
        with reader.in_hand(good) as allowed:
            assert allowed
        hand = reader.in_hand(deadly)
        assert hand.__enter__()
        reader.close()  # as the process that dies within it
    with SpoolReader(tmp_path) as reader:
        taken = []
        while (record := reader.next(0.0)) is not None:
            with reader.in_hand(record) as allowed:
                taken += [record.message] if allowed else []
    assert taken == [b"good", b"good too"]
    assert "record 1 is left out" in caplog.text
