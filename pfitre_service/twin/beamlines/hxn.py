"""Fluorescence tomography at HXN (NSLS-II 3-ID): one run for each angle, alignment runs in between.

The documents are those of the beamline's `fly2dpd` plan and its PandA flyer: the sums of each detector and element, the
scaler and the encoders are one array an angle, one entry a pixel, in files; one event comes when the angle ends. The
angle stands in the stream `baseline`.

The fast stage turns with the sample, so its range is stretched, by 1/cos(angle) for `zpssx` and, beyond 45 degrees, by
1/|sin(angle)| for `zpssz`: across the beam it is the same at every angle. A column of the map is hence
`(x1 - x0) / nx * cos(angle)` (or `|sin(angle)|`) wide, the same at every angle.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from numpy.typing import NDArray
from ophyd import Device
from ophyd.areadetector.filestore_mixins import resource_factory
from ophyd.status import Status

from pfitre_service.twin.beamlines.inline import Plan, done
from pfitre_service.twin.beamlines.raster_sample import RasterSample
from pfitre_service.twin.devices import AngleSignal

DETECTOR_SHARE = (0.30, 0.36, 0.34)
"""How the fluorescence of an element divides among Det1, Det2 and Det3."""
ION_CHAMBER = "sclr1_ch4"
RANGE_UM = (4.8, 0.8)
"""Width and height that a map covers across the beam."""
_DWELL_S = 0.05
_DRIFT = 5
"""Columns by which the sample stands aside at the angle that is redone."""


def hxn_tomography(sample: RasterSample, folder: Path, *, redone: int | None = 3, align_every: int = 5) -> Plan:
    """All angles of the sample, with an alignment run before every `align_every` of them.

    redone: place of an angle at which the sample had moved, and which is therefore taken again at the end; None for a
    scan in which nothing went wrong.
    """
    theta = AngleSignal(name="zpsth", value=0.0)
    for place, angle in enumerate(sample.angles):
        yield from bps.mv(theta, float(angle))
        if place % align_every == 0:
            yield from alignment_run(sample, place, theta, folder)
        yield from map_run(sample, place, theta, folder, shift=_DRIFT if place == redone else 0)
    if redone is not None:
        yield from bps.mv(theta, float(sample.angles[redone]))
        yield from map_run(sample, redone, theta, folder)


def map_run(sample: RasterSample, place: int, theta: AngleSignal, folder: Path, *, shift: int = 0) -> Plan:
    """One run: the map at one angle; `shift` moves the sample by so many columns."""
    pixels = {name: np.roll(values, shift, axis=1).ravel() for name, values in _signals(sample, place).items()}
    rows, columns = sample.map_shape
    fast, stretch = _fast_axis(float(sample.angles[place]))
    half_x, half_y = RANGE_UM[0] * stretch / 2, RANGE_UM[1] / 2
    scan_input = [-half_x, half_x, float(columns), -half_y, half_y, float(rows)]
    return (yield from _run("2D_FLY_PANDA", [fast, "zpssy"], scan_input, [columns, rows], pixels, theta, folder))


def alignment_run(sample: RasterSample, place: int, theta: AngleSignal, folder: Path) -> Plan:
    """One run: a single line across the sample, by which the operator finds its middle."""
    line = sample.map_shape[0] // 2
    pixels = {name: values[line] for name, values in _signals(sample, place).items()}
    columns = sample.map_shape[1]
    scan_input = [-RANGE_UM[0] / 2, RANGE_UM[0] / 2, float(columns)]
    return (yield from _run("1D_FLY_PANDA", ["zpssx"], scan_input, [columns], pixels, theta, folder))


def _signals(sample: RasterSample, place: int) -> dict[str, NDArray[np.float32]]:
    """(row, column) of every detector and element, and of the ion chamber."""
    beam = sample.beam[place]
    sums = {
        f"Det{number}_{element}": (share * maps[place] * beam).astype(np.float32)
        for number, share in enumerate(DETECTOR_SHARE, start=1)
        for element, maps in sample.maps.items()
    }
    return sums | {ION_CHAMBER: beam}


def _fast_axis(angle: float) -> tuple[str, float]:
    """Name of the stage that scans across the beam at `angle` degrees, and how far its range is stretched."""
    if abs(angle) <= 45:
        return "zpssx", 1 / float(np.cos(np.deg2rad(angle)))
    return "zpssz", 1 / abs(float(np.sin(np.deg2rad(angle))))


def _run(
    kind: str,
    motors: list[str],
    scan_input: list[float],
    shape: list[int],
    pixels: Mapping[str, NDArray[np.float32]],
    theta: AngleSignal,
    folder: Path,
) -> Plan:
    axes = {
        axis: {"motor_name": motor, "units": "um"}
        for axis, motor in zip(("fast_axis", "slow_axis"), motors, strict=False)
    }
    scan = {
        "type": kind,
        "scan_input": scan_input,
        "sample_name": "chip",
        "detectors": ["xspress3", "panda1", "sclr1"],
        "dwell": _DWELL_S,
        "shape": shape,
        **axes,
    }
    numbered = {f"motor{number}": motor for number, motor in enumerate(motors, start=1)}
    plan = "fly2dpd" if len(motors) == 2 else "fly1dpd"
    start = {"plan_name": plan, "sample": "chip", "scan": scan, "motors": motors, "shape": shape}
    flyer = PandaFlyer(pixels, folder)

    @bpp.baseline_decorator([theta])  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md=start | numbered | {"fly_type": "grid"})  # type: ignore[untyped-decorator]
    def scanned() -> Plan:
        yield from bps.kickoff(flyer, wait=True)
        yield from bps.complete(flyer, wait=True)
        yield from bps.collect(flyer)

    return (yield from scanned())


class PandaFlyer(Device):  # type: ignore[misc]  # ophyd has no types
    """HXN's flyer: three files a run, for the fluorescence, the scaler and the PandA box."""

    def __init__(self, pixels: Mapping[str, NDArray[np.float32]], folder: Path) -> None:
        """pixels: by data key (pixel,) in the order of the scan, row after row."""
        super().__init__(name="PandaFlyer")
        count = len(next(iter(pixels.values())))
        steps = np.arange(count, dtype=np.int32)
        sums = {key: values for key, values in pixels.items() if key.startswith("Det")}
        scaler = {key: values for key, values in pixels.items() if key not in sums}
        self._files = [
            _File("PANDA", "field", {"inenc1_val": ("INENC1.VAL.Value", steps)}),
            _File("SIS_HDF51_FLY_STREAM_V1", "column", {key: (key, values) for key, values in scaler.items()}),
            _File("ROI_HDF5_FLY", "det_elem", {key: (key, values) for key, values in sums.items()}),
        ]
        self._folder = folder.resolve()
        self._documents: list[tuple[str, dict[str, Any]]] = []
        self._datums: dict[str, str] = {}
        self._count = count

    def kickoff(self) -> Status:
        return done(self)

    def complete(self) -> Status:
        for file in self._files:
            resource, factory = self._write(file)
            self._documents.append(("resource", resource))
            for key, (dataset, _) in file.datasets.items():
                point = {"point_number": 0} if file.selector == "column" else {}
                datum = factory({file.selector: dataset} | point)
                self._documents.append(("datum", datum))
                self._datums[key] = datum["datum_id"]
        return done(self)

    def describe_collect(self) -> dict[str, Any]:
        return {"primary": {key: self._data_key(file, key) for file in self._files for key in file.datasets}}

    def collect_asset_docs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        documents, self._documents = self._documents, []
        yield from documents

    def collect(self) -> Iterator[dict[str, Any]]:
        now = time.time()
        yield {
            "data": dict(self._datums),
            "timestamps": dict.fromkeys(self._datums, now),
            "time": now,
            "filled": dict.fromkeys(self._datums, False),
        }

    def _write(self, file: _File) -> tuple[dict[str, Any], Any]:
        import h5py

        path = self._folder / f"{file.spec.split('_')[0].lower()}_{uuid4().hex}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w", libver="latest") as handle:
            for dataset, values in file.datasets.values():
                handle[dataset] = values
        arguments = {} if file.spec == "PANDA" else {"frame_per_point": self._count}
        resource, factory = resource_factory(file.spec, "/", str(path), arguments, "posix")
        return resource, factory

    def _data_key(self, file: _File, key: str) -> dict[str, Any]:
        values = file.datasets[key][1]
        kind = {"dtype": "array", "dtype_str": values.dtype.str, "shape": [self._count]}
        return kind | {"source": file.spec, "external": "FILESTORE:" if file.spec == "PANDA" else "FileStore:"}


class _File:
    """One file of a run: its spec, the word in `datum_kwargs` that names a dataset, and the datasets by data key."""

    def __init__(self, spec: str, selector: str, datasets: Mapping[str, tuple[str, NDArray[Any]]]) -> None:
        self.spec, self.selector, self.datasets = spec, selector, datasets
