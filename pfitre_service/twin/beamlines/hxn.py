"""Fluorescence tomography at HXN (NSLS-II 3-ID): one run for each angle, alignment runs in between.

Written from what is published: the plans of `NSLS2/hxn-profile-collection` (`72-json-plans.py` for which stage flies
and how far, `93-scanplan-panda.py` for the order of pixels and the documents) and PyXRF (`map_data2D_hxn` for the place
of a pixel across the beam).

Coordinates
-----------
The stages x (`zpssx`), y (`zpssy`) and z (`zpssz`) stand on the rotation `zpsth` (angle t) and turn with the sample. A
point of the sample is named by the stage positions (x, y, z), in micrometres, that bring it to where the beam crosses
the axis. PyXRF multiplies the positions of a flying x by cos(t) and those of a flying z by sin(t), and takes the two
for the same coordinate; at negative angles, where z sin(t) falls while z rises, it reverses the columns of z, so that
tomography takes all columns as they are. So with the stages at (x, y, z) the beam looks along the line

    u = x cos(t) + z sin(t),  v = y

that is, a pixel is the integral over the points (x', y', z') with x' cos(t) + z' sin(t) = u and y' = v. In a
`RasterSample` u grows with the column and v with the row: its volume's x is the stage's x, its y the stage's z.

Which stage flies
-----------------
x where |t| < 44.99 degrees, its range divided by cos(t); else z, its range divided by |sin(t)|. The range across the
beam, `RANGE_UM`, is hence the same at every angle, and the width of a column `(x1 - x0) / nx` times cos(t) or |sin(t)|.

Order of pixels
---------------
Row after row, each in the same direction: the stage flies back between rows without a measurement (`fly_type` "grid").
Pixel i of a row is taken on the way from i to i + 1 steps of `(x1 - x0) / nx` behind x0, row j at j steps of
`(y1 - y0) / ny` behind y0. `scan_input` is (x0, x1, nx, y0, y1, ny) as the stages count, so its middle is where the
stages stood (`AT_REST_UM`) when the scan began. As x0 < x1 also for z at negative angles, those rows come with u
falling; x0 > x1 turns that round.

Documents
---------
Those of the plan `fly2dpd` and its PandA flyer: the sums of each detector and element, the scaler and the encoders are
one array an angle, in files; one event comes when the angle ends. The angle stands in the stream `baseline`. Encoders
have ten samples a pixel, and the number of samples stands as the shape of every data key and as `frame_per_point`,
although sums and scalers have one entry a pixel.
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
AT_REST_UM = {"zpssx": 0.75, "zpssy": -0.25, "zpssz": -0.5}
"""Where the stages stand when the middle of the sample is in the beam."""
SAMPLES_A_PIXEL = 10
"""Of the encoders."""
_SWITCH_DEGREES = 44.99
_DWELL_S = 0.05
_DRIFT = 5
"""Columns by which the sample stands aside at the angle that is redone."""


def hxn_tomography(
    sample: RasterSample, folder: Path, *, redone: int | None = 3, align_every: int = 5, backwards: bool = False
) -> Plan:
    """All angles of the sample, with an alignment run before every `align_every` of them.

    Parameters
    ----------
    sample
        Its maps are (angle, row, column), with u along columns and v along rows.
    folder
        Where the files of the detectors are written.
    redone
        Place of an angle at which the sample had moved, and which is therefore taken again at the end; None for a scan
        in which nothing went wrong.
    align_every
        Number of angles between alignment runs.
    backwards
        The operator has exchanged first and last position of the fast stage.

    Yields
    ------
    Msg
        For the RunEngine.
    """
    theta = AngleSignal(name="zpsth", value=0.0)
    for place, angle in enumerate(sample.angles):
        yield from bps.mv(theta, float(angle))
        if place % align_every == 0:
            yield from alignment_run(sample, place, theta, folder)
        shift = _DRIFT if place == redone else 0
        yield from map_run(sample, place, theta, folder, shift=shift, backwards=backwards)
    if redone is not None:
        yield from bps.mv(theta, float(sample.angles[redone]))
        yield from map_run(sample, redone, theta, folder, backwards=backwards)


def map_run(
    sample: RasterSample, place: int, theta: AngleSignal, folder: Path, *, shift: int = 0, backwards: bool = False
) -> Plan:
    """One run: the map at one angle.

    Parameters
    ----------
    sample
        Whose maps they are.
    place
        Of the angle, from 0.
    theta
        Rotation.
    folder
        Where the files of the detectors are written.
    shift
        Columns by which the sample stands aside.
    backwards
        First and last position of the fast stage are exchanged.

    Returns
    -------
    Plan
        For the RunEngine.
    """
    rows, columns = sample.map_shape
    angle = float(sample.angles[place])
    fast, stretch = _fast_stage(angle)
    x = _range(fast, RANGE_UM[0] * stretch, backwards)
    y = _range("zpssy", RANGE_UM[1])
    seen = np.ix_(_rows_at(_rows_of(y, rows), sample), _columns_at(_flight(x, columns), fast, angle, sample))
    pixels = {name: np.roll(map_, shift, axis=1)[seen].ravel() for name, map_ in _signals(sample, place).items()}
    scan_input = [*x, float(columns), *y, float(rows)]
    return (yield from _run("2D_FLY_PANDA", [fast, "zpssy"], scan_input, [columns, rows], pixels, theta, folder))


def alignment_run(sample: RasterSample, place: int, theta: AngleSignal, folder: Path) -> Plan:
    """One run: a single line across the sample, by which the operator finds its middle; its range is not stretched."""
    rows, columns = sample.map_shape
    angle = float(sample.angles[place])
    fast, _ = _fast_stage(angle)
    x = _range(fast, RANGE_UM[0])
    seen = _columns_at(_flight(x, columns), fast, angle, sample)
    pixels = {name: map_[rows // 2, seen] for name, map_ in _signals(sample, place).items()}
    return (yield from _run("1D_FLY_PANDA", [fast], [*x, float(columns)], [columns, 1], pixels, theta, folder))


def _signals(sample: RasterSample, place: int) -> dict[str, NDArray[np.float32]]:
    """(row, column) of every detector and element, and of the ion chamber."""
    beam = sample.beam[place]
    sums = {
        f"Det{number}_{element}": (share * maps[place] * beam).astype(np.float32)
        for number, share in enumerate(DETECTOR_SHARE, start=1)
        for element, maps in sample.maps.items()
    }
    return sums | {ION_CHAMBER: beam}


def _fast_stage(angle: float) -> tuple[str, float]:
    """Name of the stage that flies at `angle` degrees, and how far its range is stretched."""
    if abs(angle) < _SWITCH_DEGREES:
        return "zpssx", 1 / float(np.cos(np.deg2rad(angle)))
    return "zpssz", 1 / abs(float(np.sin(np.deg2rad(angle))))


def _range(stage: str, length: float, backwards: bool = False) -> tuple[float, float]:
    """First and last position of a scan about where the stage stands."""
    half = -length / 2 if backwards else length / 2
    return AT_REST_UM[stage] - half, AT_REST_UM[stage] + half


def _flight(span: tuple[float, float], count: int) -> NDArray[np.float64]:
    """(pixel,) where the fast stage is in the middle of each pixel."""
    first, last = span
    return first + (np.arange(count) + 0.5) * (last - first) / count


def _rows_of(span: tuple[float, float], count: int) -> NDArray[np.float64]:
    """(row,) where the slow stage stands."""
    first, last = span
    return first + np.arange(count) * (last - first) / count


def _columns_at(positions: NDArray[np.float64], fast: str, angle: float, sample: RasterSample) -> NDArray[np.int64]:
    """(pixel,) columns of the sample's maps that the beam meets; the other stage stands where it is at rest."""
    columns = sample.map_shape[1]
    radians = np.deg2rad(angle)
    u = (positions - AT_REST_UM[fast]) * (np.cos(radians) if fast == "zpssx" else np.sin(radians))
    return _nearest(u / RANGE_UM[0] * columns + (columns - 1) / 2, columns)


def _rows_at(positions: NDArray[np.float64], sample: RasterSample) -> NDArray[np.int64]:
    """(row,) rows of the sample's maps, the lowest of which is where the scan begins."""
    rows = sample.map_shape[0]
    return _nearest((positions - AT_REST_UM["zpssy"]) / RANGE_UM[1] * rows + rows / 2, rows)


def _nearest(places: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    return np.clip(np.rint(places), 0, count - 1).astype(np.int64)


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
    flyer = PandaFlyer(pixels, _encoder(scan_input), folder)

    @bpp.baseline_decorator([theta])  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md=start | numbered | {"fly_type": "grid"})  # type: ignore[untyped-decorator]
    def scanned() -> Plan:
        yield from bps.kickoff(flyer, wait=True)
        yield from bps.complete(flyer, wait=True)
        yield from bps.collect(flyer)

    return (yield from scanned())


def _encoder(scan_input: list[float]) -> NDArray[np.int32]:
    """(sample,) the fast stage's encoder, in nanometres."""
    first, last, columns = scan_input[:3]
    line = _flight((first, last), int(columns) * SAMPLES_A_PIXEL) * 1000
    return np.tile(np.rint(line).astype(np.int32), int(scan_input[5]) if len(scan_input) > 3 else 1)


class PandaFlyer(Device):  # type: ignore[misc]  # ophyd has no types
    """HXN's flyer: three files a run, for the fluorescence, the scaler and the PandA box.

    Parameters
    ----------
    pixels
        By data key: (pixel,) in the order of the scan, row after row.
    encoder
        (sample,), several a pixel.
    folder
        Where the files are written.
    """

    def __init__(self, pixels: Mapping[str, NDArray[np.float32]], encoder: NDArray[np.int32], folder: Path) -> None:
        super().__init__(name="PandaFlyer")
        sums = {key: values for key, values in pixels.items() if key.startswith("Det")}
        scaler = {key: values for key, values in pixels.items() if key not in sums}
        self._files = [
            _File("PANDA", "field", {"inenc1_val": ("INENC1.VAL.Value", encoder)}),
            _File("SIS_HDF51_FLY_STREAM_V1", "column", {key: (key, values) for key, values in scaler.items()}),
            _File("ROI_HDF5_FLY", "det_elem", {key: (key, values) for key, values in sums.items()}),
        ]
        self._folder = folder.resolve()
        self._documents: list[tuple[str, dict[str, Any]]] = []
        self._datums: dict[str, str] = {}
        self._samples = len(encoder)

    def kickoff(self) -> Status:
        """Status that is finished already."""
        return done(self)

    def complete(self) -> Status:
        """Status that is finished already; the files are written."""
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
        """Data keys of the stream `primary`."""
        return {"primary": {key: self._data_key(file, key) for file in self._files for key in file.datasets}}

    def collect_asset_docs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Resources and datums, once each."""
        documents, self._documents = self._documents, []
        yield from documents

    def collect(self) -> Iterator[dict[str, Any]]:
        """The one event, with ids of datums."""
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
        arguments = {"frame_per_point": self._samples} if file.selector == "column" else {}
        resource, factory = resource_factory(file.spec, "/", str(path), arguments, "posix")
        return resource, factory

    def _data_key(self, file: _File, key: str) -> dict[str, Any]:
        values = file.datasets[key][1]
        kind = {"dtype": "array", "dtype_str": values.dtype.str, "shape": [self._samples]}
        return kind | {"source": file.spec, "external": "FILESTORE:" if file.spec == "PANDA" else "FileStore:"}


class _File:
    """One file of a run: its spec, the word in `datum_kwargs` that names a dataset, and the datasets by data key."""

    def __init__(self, spec: str, selector: str, datasets: Mapping[str, tuple[str, NDArray[Any]]]) -> None:
        self.spec, self.selector, self.datasets = spec, selector, datasets
