"""Every form of documents through a real RunEngine: valid, complete, and with files that hold what was exposed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import event_model
import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest
import tifffile
from bluesky import RunEngine
from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer

from pfitre_service.testing.forms import FORMS
from pfitre_service.testing.recorder import record_to, recorded
from pfitre_service.twin.beamlines.exposures import Exposures, expose
from pfitre_service.twin.beamlines.frame_file import EPICS_EPOCH, TIME_STAMPS

Documents = list[tuple[str, dict[str, Any]]]

ROLES = {"dark": "darks", "darks": "darks", "flat": "flats", "flats": "flats", "primary": "projections"}
ROLES |= {"tomo": "projections", "white": "flats"}
IMAGE_KEYS = ("detector_image", "camera", "KinetixU_image", "data", "data_white", "data_dark")


@pytest.fixture(scope="module")
def exposures() -> Exposures:
    return expose()


def run(RE: RunEngine, name: str, exposures: Exposures, folder: Path) -> Documents:
    documents: Documents = []

    def keep(kind: str, document: dict[str, Any]) -> None:
        event_model.schema_validators[event_model.DocumentNames[kind]].validate(document)
        documents.append((kind, document))

    RE(FORMS[name].plan(exposures, folder), keep)
    return documents


def of(documents: Documents, kind: str) -> list[dict[str, Any]]:
    return [document for name, document in documents if name == kind]


def events(documents: Documents, stream: str) -> list[dict[str, Any]]:
    uids = {d["uid"] for d in of(documents, "descriptor") if d["name"] == stream}
    pages = [e for page in of(documents, "event_page") for e in event_model.unpack_event_page(page)]
    return [e for e in of(documents, "event") + pages if e["descriptor"] in uids]


class Reader:
    """Frames as RunNormalizer describes them: stream documents for every file, images of events as they are."""

    def __init__(self, documents: Documents) -> None:
        self.normal: Documents = []
        for name, document in documents:
            if name == "start":
                normalizer = RunNormalizer()
                normalizer.subscribe(lambda kind, doc: self.normal.append((kind, doc)))
            normalizer(name, document)
        self.streams = {d["uid"]: d for d in of(self.normal, "descriptor")}
        self.resources = {d["uid"]: d for d in of(self.normal, "stream_resource")}

    def values(self, stream: str, key: str) -> np.ndarray:
        """(frame, ...) over all stream datums of the data key, in their order."""
        parts = []
        for datum in of(self.normal, "stream_datum"):
            resource = self.resources[datum["stream_resource"]]
            descriptor = self.streams[datum["descriptor"]]
            if descriptor["name"] != stream or resource["data_key"] != key:
                continue
            each = descriptor["data_keys"][key]["shape"][0]
            first, stop = datum["indices"]["start"] * each, datum["indices"]["stop"] * each
            parts.append(rows(resource, descriptor["data_keys"][key]["shape"][1:], first, stop))
        return np.concatenate(parts)


def rows(resource: dict[str, Any], frame: list[int], first: int, stop: int) -> np.ndarray:
    path = Path(resource["uri"].removeprefix("file://localhost").removeprefix("file://"))
    parameters = resource["parameters"]
    if resource["mimetype"] == "application/x-hdf5":
        with h5py.File(path, "r") as file:
            return file[parameters["dataset"]][()].reshape(-1, *frame)[first:stop]
    template = parameters["template"]
    if "filename" in parameters:  # an area detector's: folder, name, number
        names = [template % (f"{path}/", parameters["filename"], number) for number in range(first, stop)]
    else:
        names = [str(path / template.format(number)) for number in range(first, stop)]
    return np.stack([tifffile.imread(name) for name in names])


def frames(documents: Documents, stream: str) -> np.ndarray:
    (descriptor,) = [d for d in of(documents, "descriptor") if d["name"] == stream]
    (key,) = [key for key in descriptor["data_keys"] if key in IMAGE_KEYS]
    rows, columns = descriptor["data_keys"][key]["shape"][-2:]
    if "external" in descriptor["data_keys"][key]:
        return Reader(documents).values(stream, key).reshape(-1, rows, columns)
    return np.concatenate([np.reshape(e["data"][key], (-1, rows, columns)) for e in events(documents, stream)])


@pytest.mark.parametrize("name", FORMS)
def test_a_form_carries_every_exposure_in_valid_documents(name, RE, exposures, tmp_path):
    documents = run(RE, name, exposures, tmp_path)
    streams = [d["name"] for d in of(documents, "descriptor") if d["name"] in ROLES]
    assert {ROLES[stream] for stream in streams} == {"darks", "flats", "projections"}
    for stream in streams:
        np.testing.assert_array_equal(frames(documents, stream), getattr(exposures, ROLES[stream]))
    assert {stop["exit_status"] for stop in of(documents, "stop")} == {"success"}


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.documents.get("rotation") == "rotation"])
def test_the_angles_of_step_scans_stand_in_the_events(name, RE, exposures, tmp_path):
    documents = run(RE, name, exposures, tmp_path)
    found = np.concatenate([np.atleast_1d(e["data"]["rotation"]) for e in events(documents, "primary")])
    np.testing.assert_array_equal(found, exposures.angles)


def test_fxi_monitors_the_stage_and_stamps_the_frames(RE, exposures, tmp_path):
    documents = run(RE, "fxi", exposures, tmp_path)
    assert [d["name"] for d in of(documents, "descriptor")] == ["zps_pi_r_monitor", "dark", "primary", "flat"]
    monitored = events(documents, "zps_pi_r_monitor")
    resource = of(documents, "resource")[1]
    with h5py.File(Path(resource["root"]) / resource["resource_path"], "r") as file:
        stamps = file[TIME_STAMPS][:] + EPICS_EPOCH
    when = [e["timestamps"]["zps_pi_r"] for e in monitored]
    angles = np.interp(stamps, when, [e["data"]["zps_pi_r"] for e in monitored])
    np.testing.assert_allclose(angles, exposures.angles, atol=1e-4)
    start = of(documents, "start")[0]
    assert (start["num_bkg_images"], start["num_dark_images"]) == (len(exposures.flats), len(exposures.darks))


def test_hex_has_its_angles_in_a_file_of_the_encoder_and_its_references_in_another_run(RE, exposures, tmp_path):
    documents = run(RE, "hex", exposures, tmp_path)
    references, tomo = of(documents, "start")
    assert tomo["current_dark_flat_scan_uid"] == references["uid"]
    np.testing.assert_array_equal(Reader(documents).values("tomo", "Angle"), exposures.angles)
    assert len({d["uri"] for d in of(documents, "stream_resource")}) == 3
    assert not of(documents, "event")


def test_diamond_says_its_angles_in_the_start_document_alone(RE, exposures, tmp_path):
    documents = run(RE, "diamond", exposures, tmp_path)
    start = of(documents, "start")[0]
    ends = start["min_theta"], start["max_theta"]
    np.testing.assert_allclose(np.linspace(*ends, start["num_projections"]), exposures.angles)
    assert {key for d in of(documents, "descriptor") for key in d["data_keys"]} == {"camera"}


@pytest.mark.parametrize(
    ("name", "shape", "filters"),
    [
        ("stream-step", (50, 8, 48), 0),
        ("stream-axis-before", (1, 50, 8, 48), 0),
        ("stream-axis-after", (50, 1, 8, 48), 0),
        ("stream-bitshuffle", (50, 8, 48), 1),
    ],
)
def test_files_lie_as_their_form_says(name, shape, filters, RE, exposures, tmp_path):
    documents = run(RE, name, exposures, tmp_path)
    (resource,) = of(documents, "stream_resource")
    assert len(resource["parameters"]["chunk_shape"]) == len(shape)
    with h5py.File(resource["uri"].removeprefix("file://localhost"), "r") as file:
        dataset = file[resource["parameters"]["dataset"]]
        assert dataset.shape == shape
        assert dataset.id.get_create_plist().get_nfilters() == filters


def test_each_part_of_a_multi_part_scan_is_announced_and_counted_from_0(RE, exposures, tmp_path):
    documents = run(RE, "stream-parts", exposures, tmp_path)
    resources = [d["uid"] for d in of(documents, "stream_resource")]
    datums = of(documents, "stream_datum")
    firsts = [next(d for d in datums if d["stream_resource"] == uid)["indices"]["start"] for uid in resources]
    assert firsts == [0, 0, 0, 0]
    assert len({d["uri"] for d in of(documents, "stream_resource")}) == 4


@pytest.mark.parametrize("name", ["ad-hdf5", "stream-step", "stream-parts"])
def test_a_swmr_file_can_be_read_up_to_the_announced_frame_while_it_is_written(name, RE, exposures, tmp_path):
    seen: list[int] = []

    def look(kind: str, document: dict[str, Any]) -> None:
        if kind in ("datum", "stream_datum"):
            (path,) = sorted(tmp_path.glob("*.h5"), key=lambda p: p.stat().st_mtime_ns)[-1:]
            with h5py.File(path, "r", libver="latest", swmr=True) as file:
                seen.append(len(file["/entry/data/data"]))

    RE(FORMS[name].plan(exposures, tmp_path), look)
    room = 16 if name == "stream-parts" else 50
    assert seen == [number % room + 1 for number in range(50)]


def test_recorded_documents_come_back_as_they_were(RE, exposures, tmp_path):
    path = tmp_path / "documents.jsonl"
    sent: Documents = []
    RE.subscribe(record_to(path))
    RE(FORMS["inline"].plan(exposures, tmp_path), lambda name, document: sent.append((name, document)))
    back = list(recorded(path))
    assert [name for name, _ in back] == [name for name, _ in sent]
    assert [document["uid"] for _, document in back] == [document["uid"] for _, document in sent]
    images = [document["data"]["detector_image"] for name, document in back if name == "event"]
    np.testing.assert_array_equal(images[-1], exposures.projections[-1])
