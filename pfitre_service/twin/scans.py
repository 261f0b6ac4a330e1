"""Whole scans by name: stage, detector, sample and plan, ready for a RunEngine."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.twin.detector import Camera, CameraParameters
from pfitre_service.twin.devices import RotationStage, TomoDetector
from pfitre_service.twin.image_sources import ImageSource, RecordedScan, SimulatedScan
from pfitre_service.twin.phantoms import PHANTOMS
from pfitre_service.twin.plans import tomo_scan, wedge_angles
from pfitre_service.twin.project import FineVolume, bin_volume
from pfitre_service.twin.recordings import cu23

_OVERSAMPLING = 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DemoScan:
    """A scan that can be run as it is: `RE(scan.plan())`."""

    name: str
    """A key of `SCANS`."""
    description: str
    """One line for people."""
    detector: TomoDetector
    """Sees the sample."""
    stage: RotationStage
    """Turns it."""
    angles: list[float]
    """Degrees, in the order of the scan."""
    flats: int
    """Frames without sample."""
    darks: int
    """Frames without beam."""
    volume_shape: tuple[int, int, int]
    """(z, y, x) of the tomogram."""
    truth: NDArray[np.float32] | None
    """(z, y, x), attenuation per pixel; None for real samples."""

    def plan(self) -> Generator[Any, Any, Any]:
        """A new plan; each takes the whole scan once."""
        return tomo_scan(self.detector, self.stage, self.angles, flats=self.flats, darks=self.darks, sample=self.name)


def build_scan(name: str, *, exposure_s: float = 0.1, seed: int = 0) -> DemoScan:
    """A scan with fresh devices `detector` and `rotation`.

    Parameters
    ----------
    name
        A key of `SCANS`.
    exposure_s
        Seconds that each frame takes.
    seed
        Of phantom and noise, without effect on recorded scans.

    Returns
    -------
    DemoScan
        Ready to be run.

    Raises
    ------
    InputError
        There is no scan of that name.
    """
    if name not in SCANS:
        raise InputError(f"there is no scan {name!r}; choose one of {', '.join(SCANS)}")
    return SCANS[name](name, exposure_s, seed)


def _recorded(name: str, exposure_s: float, seed: int) -> DemoScan:
    del seed  # what was measured is measured
    recording = cu23()
    rows, columns = recording.projections.shape[1:]
    detector, stage = _devices(RecordedScan(recording, rotation_axis=(columns - 1) / 2), exposure_s)
    return DemoScan(
        name=name,
        description="real X-ray fluorescence tomogram (Cu) from the Hard X-ray Nanoprobe, NSLS-II; 51 angles, "
        "96 degrees missing",
        detector=detector,
        stage=stage,
        angles=recording.angles.tolist(),
        flats=0,
        darks=0,
        volume_shape=(rows, columns, columns),
        truth=None,
    )


@dataclass(frozen=True, slots=True)
class SimulatedSample:
    """A phantom on a camera, with a rotation axis a little off the detector's middle, as in real life."""

    phantom: str
    """A key of PHANTOMS."""
    attenuation: float
    """Per pixel, of the phantom's densest material."""
    rows: int = 64
    """Detector rows."""
    columns: int = 128
    """Detector columns."""
    axis: float = 64.75
    """Column of the rotation axis."""

    def source(self, seed: int) -> SimulatedScan:
        """What a detector sees of it.

        Parameters
        ----------
        seed
            Of phantom and noise.

        Returns
        -------
        SimulatedScan
            Counts of a camera.
        """
        sample = FineVolume.from_volume(self._volume(seed), oversampling=_OVERSAMPLING, axis=self.axis)
        camera = Camera((self.rows, self.columns), CameraParameters(dead_share=0.001, hot_share=0.0005), seed=seed)
        return SimulatedScan(sample, camera)

    def truth(self, seed: int) -> NDArray[np.float32]:
        """The phantom, on voxels as large as detector pixels.

        Parameters
        ----------
        seed
            Of the phantom.

        Returns
        -------
        NDArray[np.float32]
            (z, y, x), attenuation per pixel.
        """
        return bin_volume(self._volume(seed), _OVERSAMPLING)

    def _volume(self, seed: int) -> NDArray[np.float32]:
        shape = (self.rows * _OVERSAMPLING, self.columns * _OVERSAMPLING, self.columns * _OVERSAMPLING)
        return PHANTOMS[self.phantom](shape, seed=seed) * np.float32(self.attenuation)


@dataclass(frozen=True, slots=True)
class _Simulated:
    """A whole scan of a simulated sample."""

    sample: SimulatedSample
    description: str
    missing: float = 96.0
    step: float = 1.0

    def __call__(self, name: str, exposure_s: float, seed: int) -> DemoScan:
        detector, stage = _devices(self.sample.source(seed), exposure_s)
        truth = self.sample.truth(seed)
        return DemoScan(
            name=name,
            description=self.description,
            detector=detector,
            stage=stage,
            angles=wedge_angles(missing=self.missing, step=self.step),
            flats=10,
            darks=10,
            volume_shape=truth.shape,
            truth=truth,
        )


def _devices(source: ImageSource, exposure_s: float) -> tuple[TomoDetector, RotationStage]:
    stage = RotationStage(name="rotation")
    return TomoDetector(name="detector", source=source, stage=stage, exposure_s=exposure_s), stage


SCANS: dict[str, Callable[[str, float, int], DemoScan]] = {
    "cu23": _recorded,
    "chip": _Simulated(
        SimulatedSample("layered_chip", attenuation=0.1),
        "simulated chip: a thin slab of metal lines and vias, transmission with photon noise; 85 angles, "
        "96 degrees missing",
    ),
    "particle": _Simulated(
        SimulatedSample("battery_particle", attenuation=0.03),
        "simulated battery particle with pores and cracks, transmission with photon noise; 85 angles, "
        "96 degrees missing",
    ),
}
