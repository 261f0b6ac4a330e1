"""Bluesky plans for tomography."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from ophyd import Device

from pfitre_service.errors import InputError
from pfitre_service.model import Measurement


class Detector(Protocol):
    """A triggerable as `TomoDetector` is: `shutter` and `sample` are movables with a `get`."""

    name: str
    """Of the device."""
    shutter: Any
    """Movable, "open" or "closed"."""
    sample: Any
    """Movable, "in" or "out"."""

    @property
    def measurement(self) -> Measurement:
        """What the images hold: counts, or line integrals."""

    @property
    def rotation_axis(self) -> float | None:
        """Column of the rotation axis, where it is known."""
        ...


def wedge_angles(*, missing: float, step: float, centre: float = 0.0) -> list[float]:
    """Evenly spaced angles of a limited-angle scan.

    >>> wedge_angles(missing=100, step=20) [-40.0, -20.0, 0.0, 20.0, 40.0]

    Parameters
    ----------
    missing
        Degrees of 180 that are left out, between 0 and 180.
    step
        Degrees between neighbours.
    centre
        Degrees, the middle of what is measured.

    Returns
    -------
    list[float]
        Degrees, rising.

    Raises
    ------
    InputError
        `missing` or `step` lies outside of what it can be.
    """
    if not (0 < missing < 180 and step > 0):
        raise InputError(
            f"a wedge misses more than 0 and less than 180 degrees, in steps above 0; got {missing}, {step}"
        )
    half = (180 - missing) / 2
    count = int(np.floor(2 * half / step + 1e-9)) + 1
    span = (count - 1) * step
    return [float(angle) for angle in np.round(centre - span / 2 + step * np.arange(count), 6)]


def tomo_scan(
    detector: Detector,
    stage: Device,
    angles: Sequence[float],
    *,
    flats: int = 0,
    darks: int = 0,
    sample: str = "",
    md: Mapping[str, Any] | None = None,
) -> Generator[Any, Any, Any]:
    """Plan of one run: darks in stream `dark`, flats in `flat`, then one projection at each angle in `primary`. Shutter
    and sample go back to where they were, however the plan ends.

    Parameters
    ----------
    detector
        Is triggered at each angle.
    stage
        Is moved to each angle.
    angles
        Degrees, in the order in which they are taken.
    flats
        Frames without sample.
    darks
        Frames without beam.
    sample
        Its name, for the start document.
    md
        Further metadata of the run.

    Yields
    ------
    (Any, Any, Any)
        Messages for a RunEngine.

    Raises
    ------
    InputError
        Flats or darks are asked of a detector that has none; no run is opened then.
    """
    if (flats or darks) and detector.measurement == "line_integral":
        raise InputError(f"{detector.name} gives line integrals: there are no flats or darks to take; leave both at 0")
    start = _start_document(detector, stage, angles, flats=flats, darks=darks, sample=sample) | dict(md or {})
    before = (detector.shutter, detector.shutter.get(), detector.sample, detector.sample.get())

    @bpp.stage_decorator([detector, stage])  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md=start)  # type: ignore[untyped-decorator]
    def scan() -> Generator[Any, Any, Any]:
        if darks:
            yield from bps.mv(detector.shutter, "closed")
            yield from _take(detector, darks, "dark")
        yield from bps.mv(detector.shutter, "open")
        if flats:
            yield from bps.mv(detector.sample, "out")
            yield from _take(detector, flats, "flat")
        yield from bps.mv(detector.sample, "in")
        for angle in angles:
            # A scan that is paused goes on from here, not from its beginning.
            yield from bps.checkpoint()
            yield from bps.mv(stage, float(angle))
            yield from bps.trigger_and_read([detector, stage])

    return (yield from bpp.finalize_wrapper(scan(), lambda: bps.mv(*before)))


def _take(detector: Detector, count: int, stream: str) -> Generator[Any, Any, Any]:
    for _ in range(count):
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([detector], name=stream)


def _start_document(
    detector: Detector, stage: Device, angles: Sequence[float], *, flats: int, darks: int, sample: str
) -> dict[str, Any]:
    start: dict[str, Any] = {
        "plan_name": "tomo_scan",
        "plan_args": {"angles": [float(angle) for angle in angles], "flats": flats, "darks": darks},
        "detectors": [detector.name],
        "motors": [stage.name],
        "num_points": len(angles),
        "num_projections": len(angles),
        "num_flats": flats,
        "num_darks": darks,
        "measurement": detector.measurement,
        "hints": {"dimensions": [([stage.name], "primary")]},
    }
    if sample:
        start["sample"] = sample
    if detector.rotation_axis is not None:
        start["rotation_axis"] = detector.rotation_axis
    return start
