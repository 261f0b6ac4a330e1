"""What HDF5 would open or invent by itself: nothing outside the allowed folders, nothing that is not whole.

The files are made with h5py alone; that HDF5 itself reads zeros, or reads outside, is asserted beside each case.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.ingest import FrameFiles, NotReadableYetError
from pfitre_service.ingest.assembly.file_references import FileRows, FileSource
from pfitre_service.ingest.hdf5_values import dataset_at

FRAMES = np.arange(1, 1 + 6 * 4 * 5, dtype=np.uint16).reshape(6, 4, 5)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A folder that may be read, and one that may not."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    with h5py.File(outside / "secret.h5", "w") as file:
        file["data"] = FRAMES
    return inside, outside


def read(inside: Path, dataset: str = "data", first: int = 0, stop: int = 6) -> np.ndarray:
    return FrameFiles([str(inside)]).images(FileRows(FileSource("hdf5", str(inside / "x.h5"), dataset), first, stop))


def virtual(path: Path, *sources: tuple[str, slice], length: int = 6, name: str = "data") -> None:
    layout = h5py.VirtualLayout(shape=(length, 4, 5), dtype="u2")
    for source, rows in sources:
        length_of_it = rows.stop - rows.start
        layout[rows] = h5py.VirtualSource(source, "data", shape=(length_of_it, 4, 5))[:length_of_it]
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(name, layout, fillvalue=0)


def external_link(inside: Path, outside: Path) -> str:
    with h5py.File(inside / "x.h5", "w") as file:
        file["data"] = h5py.ExternalLink(str(outside / "secret.h5"), "/data")
    return "data"


def group_link(inside: Path, outside: Path) -> str:
    with h5py.File(inside / "x.h5", "w") as file:
        file["entry/link"] = h5py.ExternalLink(str(outside / "secret.h5"), "/")
        file["entry/data"] = h5py.SoftLink("/entry/link/data")
    return "entry/data"


def relative_link(inside: Path, outside: Path) -> str:
    with h5py.File(inside / "x.h5", "w") as file:
        file["data"] = h5py.ExternalLink("../outside/secret.h5", "/data")
    return "data"


def link_to_a_link(inside: Path, outside: Path) -> str:
    with h5py.File(inside / "y.h5", "w") as file:
        file["data"] = h5py.ExternalLink(str(outside / "secret.h5"), "/data")
    with h5py.File(inside / "x.h5", "w") as file:
        file["data"] = h5py.ExternalLink("y.h5", "/data")
    return "data"


def symbolic_link(inside: Path, outside: Path) -> str:
    (inside / "y.h5").symlink_to(outside / "secret.h5")
    with h5py.File(inside / "x.h5", "w") as file:
        file["data"] = h5py.ExternalLink("y.h5", "/data")
    return "data"


def virtual_dataset(inside: Path, outside: Path) -> str:
    virtual(inside / "x.h5", (str(outside / "secret.h5"), slice(0, 6)))
    return "data"


def virtual_dataset_of_a_virtual_dataset(inside: Path, outside: Path) -> str:
    virtual(inside / "y.h5", (str(outside / "secret.h5"), slice(0, 6)))
    virtual(inside / "x.h5", ("y.h5", slice(0, 6)))
    return "data"


def virtual_dataset_in_part(inside: Path, outside: Path) -> str:
    with h5py.File(inside / "y.h5", "w") as file:
        file["data"] = FRAMES[:3]
    virtual(inside / "x.h5", ("y.h5", slice(0, 3)), ("../outside/secret.h5", slice(3, 6)))
    return "data"


def virtual_dataset_of_a_link(inside: Path, outside: Path) -> str:
    with h5py.File(inside / "y.h5", "w") as file:
        file["data"] = h5py.ExternalLink(str(outside / "secret.h5"), "/data")
    virtual(inside / "x.h5", ("y.h5", slice(0, 6)))
    return "data"


def raw_storage(inside: Path, outside: Path) -> str:
    (outside / "raw.bin").write_bytes(FRAMES.tobytes())
    with h5py.File(inside / "x.h5", "w") as file:
        file.create_dataset("data", FRAMES.shape, "u2", external=[(str(outside / "raw.bin"), 0, FRAMES.nbytes)])
    return "data"


def raw_storage_behind_a_virtual_dataset(inside: Path, outside: Path) -> str:
    raw_storage(inside, outside)
    (inside / "x.h5").rename(inside / "y.h5")
    virtual(inside / "x.h5", ("y.h5", slice(0, 6)))
    return "data"


@pytest.mark.parametrize(
    "make",
    [
        external_link,
        group_link,
        relative_link,
        link_to_a_link,
        symbolic_link,
        virtual_dataset,
        virtual_dataset_of_a_virtual_dataset,
        virtual_dataset_in_part,
        virtual_dataset_of_a_link,
        raw_storage,
        raw_storage_behind_a_virtual_dataset,
    ],
    ids=lambda make: make.__name__,
)
def test_nothing_outside_the_allowed_folders_is_read_by_whatever_leads_there(places, make: Callable[[Path, Path], str]):
    name = make(*places)
    with h5py.File(places[0] / "x.h5") as file:
        assert np.array_equal(file[name][()], FRAMES) or make is virtual_dataset_in_part
    with pytest.raises(InputError, match=r"outside the folders that may be read|leads outside") as refused:
        read(places[0], name)
    assert not isinstance(refused.value, NotReadableYetError)


def test_what_leads_inside_is_read_through_each_of_them(places):
    inside, _ = places
    with h5py.File(inside / "raw.h5", "w") as file:
        file["data"] = FRAMES
    (inside / "raw.bin").write_bytes(FRAMES.tobytes())
    virtual(inside / "x.h5", ("raw.h5", slice(0, 6)), name="virtual")
    with h5py.File(inside / "x.h5", "a") as file:
        file["external"] = h5py.ExternalLink("raw.h5", "/data")
        file["entry/soft"] = h5py.SoftLink("/external")
        file.create_dataset("stored_raw", FRAMES.shape, "u2", external=[("raw.bin", 0, FRAMES.nbytes)])
    for name in ("virtual", "external", "entry/soft", "stored_raw"):
        np.testing.assert_array_equal(read(inside, name), FRAMES)
        np.testing.assert_array_equal(read(inside, name, 2, 4), FRAMES[2:4])


def absent_source(inside: Path) -> str:
    virtual(inside / "x.h5", ("gone.h5", slice(0, 6)))
    return "gone.h5"


def short_source(inside: Path) -> str:
    with h5py.File(inside / "y.h5", "w") as file:
        file["data"] = FRAMES[:4]
    virtual(inside / "x.h5", ("y.h5", slice(0, 6)))
    return "holds 4"


def source_without_the_dataset(inside: Path) -> str:
    with h5py.File(inside / "y.h5", "w") as file:
        file["other"] = FRAMES
    virtual(inside / "x.h5", ("y.h5", slice(0, 6)))
    return "has no 'data'"


def frames_that_nothing_maps(inside: Path) -> str:
    with h5py.File(inside / "y.h5", "w") as file:
        file["data"] = FRAMES[:4]
    virtual(inside / "x.h5", ("y.h5", slice(0, 4)))
    return "frames 4-5 were never written"


def source_not_written_whole(inside: Path) -> str:
    with h5py.File(inside / "y.h5", "w") as file:
        data = file.create_dataset("data", FRAMES.shape, "u2", chunks=(1, 4, 5))
        data[:5] = FRAMES[:5]
    virtual(inside / "x.h5", ("y.h5", slice(0, 6)))
    return "frames 5 were never written"


def chunks_never_written(inside: Path) -> str:
    with h5py.File(inside / "x.h5", "w") as file:
        data = file.create_dataset("data", FRAMES.shape, "u2", chunks=(1, 4, 5))
        data[0], data[3] = FRAMES[0], FRAMES[3]
    return "frames 1-2, 4-5 were never written"


def half_a_frame_written(inside: Path) -> str:
    with h5py.File(inside / "x.h5", "w") as file:
        data = file.create_dataset("data", FRAMES.shape, "u2", chunks=(1, 2, 5))
        data[:, :2], data[:5, 2:] = FRAMES[:, :2], FRAMES[:5, 2:]
    return "frames 5 were never written"


def nothing_written(inside: Path) -> str:
    with h5py.File(inside / "x.h5", "w") as file:
        file.create_dataset("data", FRAMES.shape, "u2")
    return "frames 0-5 were never written"


def raw_storage_cut_short(inside: Path) -> str:
    (inside / "raw.bin").write_bytes(FRAMES.tobytes()[:-2])
    with h5py.File(inside / "x.h5", "w") as file:
        file.create_dataset("data", FRAMES.shape, "u2", external=[(str(inside / "raw.bin"), 0, FRAMES.nbytes)])
    return "fewer than the 240"


def raw_storage_gone(inside: Path) -> str:
    with h5py.File(inside / "x.h5", "w") as file:
        file.create_dataset("data", FRAMES.shape, "u2", external=[(str(inside / "raw.bin"), 0, FRAMES.nbytes)])
    return "raw.bin"


NOT_WHOLE = [
    absent_source,
    short_source,
    source_without_the_dataset,
    frames_that_nothing_maps,
    source_not_written_whole,
    chunks_never_written,
    half_a_frame_written,
    nothing_written,
    raw_storage_cut_short,
    raw_storage_gone,
]


@pytest.mark.parametrize("make", NOT_WHOLE, ids=lambda make: make.__name__)
def test_frames_that_hdf5_would_invent_are_waited_for_live_and_refused_in_a_stored_scan(places, make):
    inside, _ = places
    words = make(inside)
    if make not in (raw_storage_gone, short_source):  # which HDF5 refuses to read by itself
        with h5py.File(inside / "x.h5") as file:
            assert (file["data"][()] == 0).any()
    with pytest.raises(NotReadableYetError, match=words):
        read(inside)
    with h5py.File(inside / "x.h5") as file, pytest.raises(InputError, match=words):
        dataset_at(file, "data")


def test_frames_that_are_there_are_read_before_the_others_are(places):
    inside, _ = places
    with h5py.File(inside / "y.h5", "w") as file:
        file["data"] = FRAMES[:3]
    virtual(inside / "x.h5", ("y.h5", slice(0, 3)), ("later.h5", slice(3, 6)))
    np.testing.assert_array_equal(read(inside, first=1, stop=3), FRAMES[1:3])
    with pytest.raises(NotReadableYetError, match=r"later\.h5"):
        read(inside, first=2, stop=4)
    with h5py.File(inside / "later.h5", "w") as file:
        file["data"] = FRAMES[3:]
    np.testing.assert_array_equal(read(inside), FRAMES)


def test_a_link_that_leads_nowhere_is_named_with_its_file(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = h5py.ExternalLink("raw/scan_001.h5", "/entry/data")
        file["loop"] = h5py.SoftLink("/loop")
        file["soft"] = h5py.SoftLink("/nowhere")
    with h5py.File(tmp_path / "x.h5") as file:
        with pytest.raises(InputError, match=r"/data .*raw/scan_001\.h5, and there is no such file"):
            dataset_at(file, "data")
        with pytest.raises(InputError, match=r"/soft is a link to /nowhere, not there"):
            dataset_at(file, "soft")
        with pytest.raises(InputError, match="links behind each other"):
            read(tmp_path, "loop")
        assert dataset_at(file, "absent") is None


def test_a_frame_of_a_file_prepared_beforehand_is_waited_for_while_the_file_changes(places):
    inside, _ = places
    with h5py.File(inside / "x.h5", "w") as file:
        file["data"] = np.where(np.arange(6)[:, None, None] < 4, FRAMES, 0).astype("u2")
    source = FileSource("hdf5", str(inside / "x.h5"), "data")
    writing, settled = FrameFiles([str(inside)], settled_s=60.0), FrameFiles([str(inside)])
    np.testing.assert_array_equal(writing.images(FileRows(source, 0, 4)), FRAMES[:4])
    with pytest.raises(NotReadableYetError, match="holds nothing but 0"):
        writing.images(FileRows(source, 3, 5))
    assert not settled.images(FileRows(source, 4, 6)).any()
