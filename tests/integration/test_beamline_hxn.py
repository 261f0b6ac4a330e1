"""Fluorescence tomography as HXN records it: what its many runs say, and what its files hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import event_model
import h5py
import numpy as np
import pytest
from bluesky import RunEngine

from pfitre_service.twin.beamlines.hxn import AT_REST_UM, ION_CHAMBER, RANGE_UM, hxn_tomography
from pfitre_service.twin.beamlines.raster_sample import RasterSample, raster_sample


class Runs:
    """Documents of many runs, held against the schemas, and found again by run."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
        self.all.append((name, document))

    def of(self, name: str, /, **wanted: Any) -> list[dict[str, Any]]:
        found = [document for kind, document in self.all if kind == name]
        return [d for d in found if all(d[key] == value for key, value in wanted.items())]

    def starts(self, kind: str) -> list[dict[str, Any]]:
        return [start for start in self.of("start") if start["scan"]["type"] == kind]

    def angle(self, run: str) -> float:
        (descriptor,) = self.of("descriptor", run_start=run, name="baseline")
        angles = {event["data"]["zpsth"] for event in self.of("event", descriptor=descriptor["uid"])}
        (angle,) = angles
        return angle

    def pixels(self, run: str, key: str) -> np.ndarray:
        """(pixel,) under a data key of the stream primary."""
        (descriptor,) = self.of("descriptor", run_start=run, name="primary")
        (page,) = self.of("event_page", descriptor=descriptor["uid"])
        (datum,) = self.of("datum", datum_id=page["data"][key][0])
        (resource,) = self.of("resource", uid=datum["resource"])
        kwargs = datum["datum_kwargs"]
        dataset = next(kwargs[word] for word in ("det_elem", "column", "field") if word in kwargs)
        with h5py.File(Path(resource["root"]) / resource["resource_path"], "r") as file:
            values: np.ndarray = file[dataset][()]
        # As at the beamline: every data key has the shape of the encoder's samples, ten a pixel.
        samples = len(values) * (1 if resource["spec"] == "PANDA" else 10)
        assert descriptor["data_keys"][key]["shape"] == [samples]
        assert resource["resource_kwargs"].get("frame_per_point", samples) == samples
        return values


@pytest.fixture(scope="module")
def sample() -> RasterSample:
    return raster_sample(angles=12)


@pytest.fixture
def runs(RE: RunEngine, sample: RasterSample, tmp_path: Path) -> Runs:
    documents = Runs()
    RE(hxn_tomography(sample, tmp_path, redone=3, align_every=5), documents)
    return documents


def normalised(runs: Runs, start: dict[str, Any], element: str) -> np.ndarray:
    """(row, column) as scanned."""
    sums = sum(runs.pixels(start["uid"], f"Det{number}_{element}") for number in (1, 2, 3))
    columns, rows = start["shape"]
    return np.asarray(sums / runs.pixels(start["uid"], ION_CHAMBER)).reshape(rows, columns)


def as_pyxrf(runs: Runs, start: dict[str, Any], element: str) -> np.ndarray:
    """What PyXRF makes of a run: columns are reversed where z flew and the angle is negative."""
    image = normalised(runs, start, element)
    backwards = start["scan"]["fast_axis"]["motor_name"].endswith("z") and runs.angle(start["uid"]) < 0
    return image[:, ::-1] if backwards else image


def test_there_is_a_run_for_each_angle_one_twice_and_alignment_in_between(runs, sample):
    kinds = [start["scan"]["type"] for start in runs.of("start")]
    assert kinds.count("1D_FLY_PANDA") == 3
    assert kinds.count("2D_FLY_PANDA") == len(sample.angles) + 1
    assert kinds[:2] == ["1D_FLY_PANDA", "2D_FLY_PANDA"]
    angles = [runs.angle(start["uid"]) for start in runs.starts("2D_FLY_PANDA")]
    np.testing.assert_array_equal(angles, [*sample.angles, sample.angles[3]])
    assert {stop["exit_status"] for stop in runs.of("stop")} == {"success"}
    assert [stop["num_events"]["primary"] for stop in runs.of("stop")] == [1] * len(kinds)


@pytest.mark.parametrize("element", ["Cu", "Fe", "Ni"])
def test_sums_over_detectors_divided_by_the_ion_chamber_are_the_line_integrals(runs, sample, element):
    starts = runs.starts("2D_FLY_PANDA")
    last = {runs.angle(start["uid"]): start for start in starts}  # an angle taken again counts anew
    for angle, expected in zip(sample.angles, sample.maps[element], strict=True):
        found = as_pyxrf(runs, last[angle], element)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_angle_that_is_redone_was_wrong_at_first(runs, sample):
    found = as_pyxrf(runs, runs.starts("2D_FLY_PANDA")[3], "Cu")
    assert np.abs(found - sample.maps["Cu"][3]).max() > 0.1 * sample.maps["Cu"][3].max()


def test_the_range_is_stretched_so_that_a_column_is_as_wide_at_every_angle(runs, sample):
    effective: dict[str, Callable[[float], float]] = {"zpssx": np.cos, "zpssz": lambda t: abs(np.sin(t))}
    moved = set()
    for start in runs.starts("2D_FLY_PANDA"):
        first, last, count, *_ = start["scan"]["scan_input"]
        motor = start["scan"]["fast_axis"]["motor_name"]
        width = (last - first) / count * effective[motor](np.deg2rad(runs.angle(start["uid"])))
        assert width == pytest.approx(RANGE_UM[0] / sample.map_shape[1])
        assert start["motors"] == [motor, "zpssy"]
        assert start["shape"] == [int(count), sample.map_shape[0]]
        moved.add(motor)
    assert moved == {"zpssx", "zpssz"}


def test_x_flies_below_45_degrees_and_z_above_about_where_the_stages_stand(runs):
    for start in runs.of("start"):
        (fast, *_), angle = start["motors"], runs.angle(start["uid"])
        assert fast == ("zpssx" if abs(angle) < 44.99 else "zpssz")
        assert start["scan"]["fast_axis"]["motor_name"] == fast
        first, last, *_ = start["scan"]["scan_input"]
        assert (first + last) / 2 == pytest.approx(AT_REST_UM[fast])


def test_the_encoder_says_where_the_stage_was_ten_times_a_pixel(runs):
    start = next(start for start in runs.starts("2D_FLY_PANDA") if runs.angle(start["uid"]) < -45)
    first, last, columns, *_, rows = start["scan"]["scan_input"]
    lines = runs.pixels(start["uid"], "inenc1_val").reshape(int(rows), int(columns), 10)
    assert (lines == lines[:1]).all()  # every row in the same direction
    step = (last - first) / columns
    middles = first + step * (np.arange(columns) + 0.5)
    np.testing.assert_allclose(lines[0].mean(axis=1) / 1000, middles, atol=1e-3)


def test_a_scan_set_up_backwards_mirrors_its_columns(RE, sample, tmp_path, runs):
    backwards = Runs()
    RE(hxn_tomography(sample, tmp_path, redone=3, backwards=True), backwards)
    for start, other in zip(runs.starts("2D_FLY_PANDA"), backwards.starts("2D_FLY_PANDA"), strict=True):
        first, last, *rest = start["scan"]["scan_input"]
        assert other["scan"]["scan_input"] == pytest.approx([last, first, *rest])
        np.testing.assert_array_equal(normalised(backwards, other, "Fe"), normalised(runs, start, "Fe")[:, ::-1])


def test_an_alignment_run_has_the_same_data_keys_but_one_line(runs, sample):
    line, full = runs.starts("1D_FLY_PANDA")[0], runs.starts("2D_FLY_PANDA")[0]
    keys = [runs.of("descriptor", run_start=run["uid"], name="primary")[0]["data_keys"].keys() for run in (line, full)]
    assert keys[0] == keys[1]
    assert len(runs.pixels(line["uid"], "Det1_Cu")) == sample.map_shape[1]
