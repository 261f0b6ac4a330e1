"""What `pfitre demo --scan` can show: beamlines of the twin, and what is known of their samples."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.twin.plans import tomo_scan, wedge_angles
from pfitre_service.twin.scans import SCANS, SimulatedSample, build_scan

_CHIP = SimulatedSample("layered_chip", attenuation=0.1, rows=24, columns=96, axis=48.75)
_REFERENCES = 5
"""Flats, and darks, of the EPICS beamline."""
_MAPS = 20
"""Angles of the raster scan."""
HXN_DOCUMENTS: dict[str, Any] = {
    "angle_from": "baseline",
    "rotation": "zpsth",
    "only": {"scan.type": ["2D_FLY_PANDA"]},
    "join_by": ["scan.sample_name"],
    "join_gap_s": 5.0,
    "maps": {
        "elements": ["Cu", "Fe", "Ni"],
        "sums": ["Det1_{element}", "Det2_{element}", "Det3_{element}"],
        "normalise": "sclr1_ch4",
        "range_key": "scan.scan_input",
    },
}
"""As profiles/hxn-xrf, which a package without its source tree does not have; here the beamtime is over sooner."""


@dataclass(frozen=True, slots=True, eq=False)
class Beamline:
    """A beamline that runs."""

    plan: Any
    """For a RunEngine."""
    says: str = ""
    """Where to look at it while it runs."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ShownScan:
    """One choice of `--scan`."""

    name: str
    description: str
    projections: int
    """Taken in all, those that are taken again included."""
    start: Callable[[], AbstractContextManager[Beamline]]
    truths: Mapping[str, NDArray[np.float32] | None]
    """(z, y, x) by the name of each tomogram, "" for the only one; None for real samples."""
    documents: Mapping[str, Any] = field(default_factory=dict)
    """The `[documents]` table of a profile that describes it."""


def choose_scan(name: str, *, exposure_s: float, folder: Path) -> ShownScan:
    """The scan called `name`, a key of SHOWN.

    exposure_s: seconds that each projection takes; folder: for the files of detectors that write files.
    Raises InputError for an unknown name.
    """
    if name not in SHOWN:
        raise InputError(f"there is no scan {name!r}; choose one of {', '.join(SHOWN)}")
    return SHOWN[name](exposure_s, folder.resolve())


def _in_this_process(name: str) -> Callable[[float, Path], ShownScan]:
    """Images in the documents, from devices of this process."""

    def show(exposure_s: float, folder: Path) -> ShownScan:
        del folder  # no files
        scan = build_scan(name, exposure_s=exposure_s)
        return ShownScan(
            name=name,
            description=scan.description,
            projections=len(scan.angles),
            start=lambda: contextlib.nullcontext(Beamline(scan.plan())),
            truths={"": scan.truth},
        )

    return show


def _epics(exposure_s: float, folder: Path) -> ShownScan:
    angles = wedge_angles(missing=96.0, step=2.0)

    @contextlib.contextmanager
    def start() -> Iterator[Beamline]:
        from pfitre_service.twin.beamlines.epics import epics_beamline

        source = partial(_CHIP.source, 0)
        with epics_beamline(source, folder, exposure_s=exposure_s, rotation_axis=_CHIP.axis) as beamline:
            plan = tomo_scan(
                beamline.detector, beamline.rotation, angles, flats=_REFERENCES, darks=_REFERENCES, sample="chip"
            )
            variables = " ".join(f"{name}={value}" for name, value in beamline.ioc.client_environment.items())
            yield Beamline(plan, f"IOC: {variables} caproto-get {beamline.ioc.prefix}rotation.RBV")

    return ShownScan(
        name="epics",
        description="simulated chip on a simulated EPICS beamline: motor record, shutter and a detector that writes "
        f"HDF5, driven over Channel Access; {len(angles)} angles, 96 degrees missing",
        projections=len(angles),
        start=start,
        truths={"": _CHIP.truth(0)},
        documents={"roots": [str(folder)]},
    )


def _hxn(exposure_s: float, folder: Path) -> ShownScan:
    from pfitre_service.twin.beamlines.hxn import hxn_tomography
    from pfitre_service.twin.beamlines.raster_sample import raster_sample

    sample = raster_sample(rows=16, columns=64, angles=_MAPS)
    plan = _taking(exposure_s, hxn_tomography(sample, folder))
    return ShownScan(
        name="hxn",
        description="simulated fluorescence maps as the Hard X-ray Nanoprobe records them: one run for each of "
        f"{_MAPS} angles, alignment runs in between, one angle taken again; three elements, three tomograms",
        projections=_MAPS + 1,
        start=lambda: contextlib.nullcontext(Beamline(plan)),
        truths=sample.truth,
        documents=HXN_DOCUMENTS | {"roots": [str(folder)]},
    )


def _taking(seconds: float, plan: Any) -> Any:
    """The plan with fly scans that last `seconds` each."""
    from bluesky import plan_stubs as bps
    from bluesky.preprocessors import plan_mutator

    return plan_mutator(plan, lambda msg: (None, bps.sleep(seconds) if msg.command == "kickoff" else None))


SHOWN: dict[str, Callable[[float, Path], ShownScan]] = {name: _in_this_process(name) for name in SCANS}
SHOWN |= {"epics": _epics, "hxn": _hxn}
