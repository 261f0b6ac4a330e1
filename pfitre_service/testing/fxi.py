"""The fly scan of FXI (NSLS-II 18-ID): the stage turns while the camera takes all frames as one event.

Streams `dark`, `primary`, `flat`, in this order, each with one event of many frames in a file of its own; the angle is
in no event of theirs. The stage's readback is monitored, and the files hold the time of every frame.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from numpy.typing import NDArray
from ophyd.status import SubscriptionStatus

from pfitre_service.twin.beamlines.exposures import Exposures, PlayedExposures
from pfitre_service.twin.beamlines.filestore import HdfDetector
from pfitre_service.twin.beamlines.inline import Plan, start_document
from pfitre_service.twin.devices import AngleSignal, RotationStage

_FRAME_S = 0.05
"""Seconds from one frame to the next, by the time stamps; the scan itself does not wait for them."""
_UPDATE_S = 0.13
"""Seconds from one monitored position to the next, by their time stamps."""
_HEARD_S = 10.0


def fxi_fly_scan(exposures: Exposures, folder: Path) -> Plan:
    """One run; the stage turns evenly from the first angle of the exposures to the last."""
    position = AngleSignal(name="zps_pi_r", value=0.0)
    camera = FlyingCamera(exposures, position, folder)
    counts = {"num_bkg_images": len(exposures.flats), "num_dark_images": len(exposures.darks)}
    start = start_document(exposures) | counts | {"plan_name": "fly_scan", "detectors": [camera.name]}

    @bpp.monitor_during_decorator([position])  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md=start)  # type: ignore[untyped-decorator]
    def scan() -> Plan:
        yield from _take(camera, "dark", len(exposures.darks), shutter="closed", sample="in")
        yield from _take(camera, "primary", len(exposures.angles), shutter="open", sample="in")
        yield from _take(camera, "flat", len(exposures.flats), shutter="open", sample="out")

    return (yield from scan())


def _take(camera: FlyingCamera, stream: str, count: int, *, shutter: str, sample: str) -> Plan:
    """One event of `count` frames in a new file."""
    yield from bps.mv(camera.shutter, shutter, camera.sample, sample, camera.files.frames_per_point, count)
    yield from bps.stage(camera, wait=True)
    yield from bps.trigger_and_read([camera], name=stream)
    yield from bps.unstage(camera, wait=True)


class FlyingCamera(HdfDetector):
    """A camera that takes `files.frames_per_point` frames an exposure while the stage turns."""

    def __init__(self, exposures: Exposures, position: AngleSignal, folder: Path) -> None:
        self._exposures = exposures
        self._position = position
        self._stamps: Sequence[float] = ()
        still = RotationStage(name="still")
        super().__init__(name="KinetixU", source=PlayedExposures(exposures), stage=still, exposure_s=0)
        self.files.save_in(folder)

    def _look(self) -> NDArray[Any]:
        count = int(self.files.frames_per_point.get())
        # The exposure ends now: all time stamps lie in the past.
        self._stamps = (time.time() - _FRAME_S * np.arange(count, -1, -1)[1:]).tolist()
        if self.shutter.get() == "open" and self.sample.get() == "in":
            self._turn()
            return self._exposures.projections
        return np.stack([super(FlyingCamera, self)._look() for _ in range(count)])

    def _turn(self) -> None:
        """Tell who monitors the position where the stage was when, at moments of its own, a little beyond both ends."""
        first, last = self._stamps[0], self._stamps[-1]
        angles = self._exposures.angles
        speed = (angles[-1] - angles[0]) / (last - first)
        for stamp in np.arange(first - _UPDATE_S / 2, last + _UPDATE_S, _UPDATE_S):
            self._report(float(angles[0] + speed * (stamp - first)), float(stamp))

    def _report(self, angle: float, stamp: float) -> None:
        # A monitor reads the signal when it hears of a change: it must have done so before the next one.
        heard = SubscriptionStatus(self._position, lambda *, value, **_: value == angle, run=False, timeout=_HEARD_S)
        self._position.put(angle, timestamp=stamp)
        heard.wait()

    def _deliver(self, image: NDArray[Any]) -> None:
        self.files.write(image, self._stamps)
        self.files.generate_datum(f"{self.name}_image", self._stamps[-1], {})
