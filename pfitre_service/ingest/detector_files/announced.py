"""Frames of which something lies in a file: from what documents announced to images with angles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.ingest.assembly.actions import ReadFrames
from pfitre_service.ingest.assembly.angle_track import AnglesAtTimes
from pfitre_service.ingest.assembly.file_references import FileRows
from pfitre_service.ingest.assembly.scanned_maps import ScannedMap
from pfitre_service.ingest.detector_files.frame_files import FrameFiles
from pfitre_service.model import Frame


def frames_of(job: ReadFrames, files: FrameFiles) -> tuple[Frame, ...]:
    """The frames of one event.

    Raises NotReadableYetError and AngleNotKnownYetError for what may still come, InputError for what never will.
    """
    match job.images:
        case FileRows():
            images = files.images(job.images)
        case ScannedMap():
            images = job.images.evaluate(files.values)
        case _:
            images = job.images
    angles = _angles(job, len(images), files)
    return tuple(
        Frame(image, job.role, float(angle), job.seq_num, job.time, job.run_uid, job.stream, part, job.event_uid)
        for part, (image, angle) in enumerate(zip(images, angles, strict=True))
    )


def _angles(job: ReadFrames, count: int, files: FrameFiles) -> NDArray[np.float64]:
    match job.angles:
        case FileRows():
            angles = files.values(job.angles)
            angles = angles * job.degrees_per_unit
        case AnglesAtTimes(track, times, offset_s):
            moments = files.values(times) if isinstance(times, FileRows) else np.asarray(times, np.float64)
            angles = track.at(moments + offset_s)
        case _:
            angles = np.asarray(job.angles, np.float64)
    if angles.size not in (1, count):
        raise InputError(f"expected one angle or {count}, one for each frame, got {angles.size}")
    if job.role == "projection" and not np.isfinite(angles).all():
        raise InputError("expected finite angles; some are not")
    return np.broadcast_to(angles.ravel(), count)
