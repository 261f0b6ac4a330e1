"""Images inside the documents: an event a frame, a page of events, or all frames in one event."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from numpy.typing import NDArray
from ophyd import Device, Signal
from ophyd.status import Status

from pfitre_service.twin.beamlines.exposures import Exposures, PlayedExposures
from pfitre_service.twin.devices import RotationStage, TomoDetector
from pfitre_service.twin.plans import tomo_scan

Plan = Generator[Any, Any, Any]


def start_document(exposures: Exposures) -> dict[str, Any]:
    """What every form says in its start document, apart from the keys of its own beamline.

    Parameters
    ----------
    exposures
        That are played.

    Returns
    -------
    dict[str, Any]
        Metadata of a run.
    """
    return {
        "plan_name": "tomo",
        "sample_name": "chip",
        "rotation_axis": exposures.axis,
        "num_projections": len(exposures.angles),
    }


def inline_events(exposures: Exposures) -> Plan:
    """One event a frame, with the image and the angle in it; streams dark, flat, primary.

    Parameters
    ----------
    exposures
        That are played.

    Returns
    -------
    Plan
        For a RunEngine.
    """
    stage = RotationStage(name="rotation")
    detector = TomoDetector(name="detector", source=PlayedExposures(exposures), stage=stage, exposure_s=0)
    return tomo_scan(
        detector,
        stage,
        exposures.angles.tolist(),
        flats=len(exposures.flats),
        darks=len(exposures.darks),
        sample="chip",
    )


def inline_pages(exposures: Exposures) -> Plan:
    """One event page for each stream, as a flyer gives it that keeps its readings until it is collected.

    Parameters
    ----------
    exposures
        That are played.

    Returns
    -------
    Plan
        For a RunEngine.
    """

    @bpp.run_decorator(md=start_document(exposures) | {"motors": ["rotation"]})  # type: ignore[untyped-decorator]
    def scan() -> Plan:
        for stream, frames, angles in _takes(exposures):
            flyer = PageFlyer(stream, frames, angles)
            yield from bps.kickoff(flyer, wait=True)
            yield from bps.complete(flyer, wait=True)
            yield from bps.collect(flyer)

    return (yield from scan())


def inline_block(exposures: Exposures) -> Plan:
    """One event for each stream, which holds all frames and as many angles.

    Parameters
    ----------
    exposures
        That are played.

    Returns
    -------
    Plan
        For a RunEngine.
    """
    camera, rotation = BlockSignal(name="detector_image"), BlockSignal(name="rotation", units="deg")

    @bpp.run_decorator(md=start_document(exposures) | {"motors": ["rotation"]})  # type: ignore[untyped-decorator]
    def scan() -> Plan:
        for stream, frames, angles in _takes(exposures):
            camera.put(frames)
            if angles is not None:
                rotation.put(angles)
            read = [camera] if angles is None else [camera, rotation]
            yield from bps.trigger_and_read(read, name=stream)

    return (yield from scan())


def _takes(exposures: Exposures) -> Iterator[tuple[str, NDArray[Any], NDArray[Any] | None]]:
    yield "dark", exposures.darks, None
    yield "flat", exposures.flats, None
    yield "primary", exposures.projections, exposures.angles


class BlockSignal(Signal):  # type: ignore[misc]  # ophyd has no types
    """An array with one entry, along its first axis, for each frame.

    Parameters
    ----------
    units
        Of the values.
    *args, **kwargs
        As ophyd's Signal has them.
    """

    def __init__(self, *args: Any, units: str = "", **kwargs: Any) -> None:
        super().__init__(*args, value=np.zeros(0), **kwargs)
        self._units = units

    def describe(self) -> dict[str, Any]:
        """Data key of the array as it is now."""
        value = self.get()
        key = {"dtype": "array", "shape": list(value.shape), "dtype_numpy": value.dtype.str, "units": self._units}
        return {self.name: super().describe()[self.name] | key}


class PageFlyer(Device):  # type: ignore[misc]
    """Frames, with an angle each where there are `angles`, collected as one page of events.

    Parameters
    ----------
    stream
        Its name.
    frames
        (frame, row, column).
    angles
        (frame,) degrees; None for none.
    """

    def __init__(self, stream: str, frames: NDArray[Any], angles: NDArray[Any] | None) -> None:
        super().__init__(name=f"{stream}_flyer")
        self._stream = stream
        self._columns = {"detector_image": frames} | ({} if angles is None else {"rotation": angles})

    def kickoff(self) -> Status:
        """Status that is finished already."""
        return done(self)

    def complete(self) -> Status:
        """Status that is finished already."""
        return done(self)

    def describe_collect(self) -> dict[str, Any]:
        """Data keys of the stream."""
        return {self._stream: {key: _data_key(key, values[0]) for key, values in self._columns.items()}}

    def collect_pages(self) -> Iterator[dict[str, Any]]:
        """The one page, with all frames."""
        now = time.time()
        count = len(self._columns["detector_image"])
        yield {
            "data": {key: list(values) for key, values in self._columns.items()},
            "timestamps": {key: [now] * count for key in self._columns},
        }


def _data_key(key: str, value: Any) -> dict[str, Any]:
    kind = "array" if np.ndim(value) else "number"
    data_key = {"source": "SIM:flyer", "dtype": kind, "shape": list(np.shape(value)), "dtype_numpy": value.dtype.str}
    return data_key | ({"units": "deg"} if key == "rotation" else {})


def done(device: Device) -> Status:
    """A status that is finished already.

    Parameters
    ----------
    device
        Whose status it is.

    Returns
    -------
    Status
        Finished.
    """
    status = Status(obj=device)
    status.set_finished()
    return status
