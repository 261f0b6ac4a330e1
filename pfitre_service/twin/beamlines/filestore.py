"""Images in files, announced by `resource` and `datum` as ophyd's area detectors do.

The documents come from ophyd's own file-store classes; in place of an IOC, this process writes the files.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from ophyd import Component, Device, Signal
from ophyd.areadetector.filestore_mixins import FileStoreIterativeWrite

from pfitre_service.twin.beamlines.exposures import Exposures, PlayedExposures
from pfitre_service.twin.beamlines.frame_file import (
    EPICS_EPOCH,
    IMAGES,
    TIME_STAMPS,
    Compression,
    Entry,
    GrowingFile,
    Layout,
)
from pfitre_service.twin.beamlines.inline import Plan
from pfitre_service.twin.devices import RotationStage, TomoDetector
from pfitre_service.twin.image_sources import ImageSource
from pfitre_service.twin.plans import tomo_scan


def ad_hdf5(exposures: Exposures, folder: Path, *, compression: Compression = "none") -> Plan:
    """A step scan whose frames, darks and flats before projections, lie in one HDF5 file; a datum an event.

    Parameters
    ----------
    exposures
        That are played.
    folder
        For the file.
    compression
        Of the images.

    Returns
    -------
    Plan
        For a RunEngine.
    """
    detector, stage = _devices(HdfDetector, exposures, folder)
    detector.files.layout = Layout(compression=compression)
    return _step_scan(detector, stage, exposures)


def ad_tiff(exposures: Exposures, folder: Path) -> Plan:
    """The same with one TIFF file a frame, numbered by the camera from 0.

    Parameters
    ----------
    exposures
        That are played.
    folder
        For the files.

    Returns
    -------
    Plan
        For a RunEngine.
    """
    return _step_scan(*_devices(TiffDetector, exposures, folder), exposures)


def _devices(kind: type[FileDetector], exposures: Exposures, folder: Path) -> tuple[FileDetector, RotationStage]:
    stage = RotationStage(name="rotation")
    detector = kind(name="detector", source=PlayedExposures(exposures), stage=stage, exposure_s=0)
    detector.files.save_in(folder)
    return detector, stage


def _step_scan(detector: FileDetector, stage: RotationStage, exposures: Exposures) -> Plan:
    flats, darks = len(exposures.flats), len(exposures.darks)
    return tomo_scan(detector, stage, exposures.angles.tolist(), flats=flats, darks=darks, sample="chip")


class FileAnnouncer(FileStoreIterativeWrite, Device):  # type: ignore[misc]  # ophyd has no types
    """What file plugins share, whoever writes: a resource from `stage` to `unstage`, a datum an exposure between.

    Parameters
    ----------
    *args, **kwargs
        As ophyd's file plugins have them.
    """

    enable = Component(Signal, value=1, kind="omitted")
    frames_per_point = Component(Signal, value=1, kind="omitted")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, write_path_template="/", **kwargs)

    def save_in(self, folder: Path) -> None:
        """Says where files go.

        Parameters
        ----------
        folder
            For the files; the resources' root is the folder above.
        """
        self.reg_root = str(folder.resolve().parent)
        self.write_path_template = str(folder.resolve())

    def stage(self) -> list[object]:
        """The devices that were staged; a file is opened and its resource announced."""
        staged = super().stage()
        name = f"{self.parent.name}_{uuid4().hex[:8]}"
        self._fn, arguments = self._open(Path(self.write_path_template), name)
        self._generate_resource(arguments | {"frame_per_point": int(self.frames_per_point.get())})
        return [staged]

    def _open(self, folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
        """The path that the resource names, and its further arguments."""
        raise NotImplementedError


class FilePlugin(FileAnnouncer):
    """Files that this process writes."""

    frame: Entry
    """What one exposure adds; set by the detector."""

    def write(self, frames: NDArray[Any], stamps: Sequence[float]) -> None:
        """Adds frames.

        Parameters
        ----------
        frames
            (frame, row, column).
        stamps
            Seconds since 1970, when each was taken.
        """
        raise NotImplementedError


class HdfPlugin(FilePlugin):
    """One HDF5 file from `stage` to `unstage`."""

    filestore_spec = "AD_HDF5"
    layout = Layout()

    def write(self, frames: NDArray[Any], stamps: Sequence[float]) -> None:
        """Adds frames to the file.

        Parameters
        ----------
        frames
            (frame, row, column).
        stamps
            Seconds since 1970, when each was taken.
        """
        for frame, stamp in zip(frames, stamps, strict=True):
            self._file.append({IMAGES: frame, TIME_STAMPS: stamp - EPICS_EPOCH})

    def unstage(self) -> list[object]:
        """The devices that were unstaged; the file is closed."""
        self._file.close()
        return [super().unstage()]

    def _open(self, folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
        entries: Mapping[str, Entry] = {IMAGES: self.frame, TIME_STAMPS: Entry((), "<f8")}
        self._file = GrowingFile(folder / f"{name}.h5", entries, self.layout)
        return self._file.path, {}


class TiffPlugin(FilePlugin):
    """One TIFF file a frame; the resource names the folder and the template."""

    filestore_spec = "AD_TIFF"
    _TEMPLATE = "%s%s_%6.6d.tiff"

    def write(self, frames: NDArray[Any], stamps: Sequence[float]) -> None:
        """Writes a file for each frame.

        Parameters
        ----------
        frames
            (frame, row, column).
        stamps
            Seconds since 1970, when each was taken.
        """
        import tifffile

        for frame, stamp in zip(frames, stamps, strict=True):
            path = self._TEMPLATE % (f"{self._folder}/", self._name, self._written)
            tifffile.imwrite(path, frame, metadata={"time": stamp})
            self._written += 1

    def _open(self, folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._written = folder, name, 0
        return folder, {"template": self._TEMPLATE, "filename": name}


class FileDetector(TomoDetector):
    """A detector whose images go to a file plugin; events hold the id of a datum under `<name>_image`."""

    image = None

    def make_data_key(self) -> dict[str, Any]:
        """What the image's data key says; ophyd's file plugins ask their detector."""
        frame = self.files.frame
        shape = [int(self.files.frames_per_point.get()), *frame.frame]
        source = f"SIM:{self.name}"
        return {
            "source": source,
            "dtype": "array",
            "shape": shape,
            "dtype_numpy": frame.dtype,
            "external": "FILESTORE:",
        }

    def collect_asset_docs(self) -> Any:
        """Documents of the files, for the RunEngine."""
        yield from self.files.collect_asset_docs()

    def _expect(self, source: ImageSource) -> None:
        self.files.frame = Entry(source.shape, source.dtype.str)

    def _deliver(self, image: NDArray[Any]) -> None:
        frames = image.reshape(-1, *image.shape[-2:])
        now = time.time()
        self.files.write(frames, np.full(len(frames), now).tolist())
        self.files.generate_datum(f"{self.name}_image", now, {})


class HdfDetector(FileDetector):
    """With an HDF5 plugin."""

    files = Component(HdfPlugin, kind="normal")


class TiffDetector(FileDetector):
    """With a TIFF plugin."""

    files = Component(TiffPlugin, kind="normal")
