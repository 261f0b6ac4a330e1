"""What came of a stored scan, as the tomogram that exports are made of."""

from __future__ import annotations

import time

from pfitre_service.engine.reconstruct import Reconstruction
from pfitre_service.export.tomogram import SlicesInMemory, Tomogram
from pfitre_service.ingest import StoredScan
from pfitre_service.software import signature


def as_tomogram(result: Reconstruction, scan: StoredScan, title: str) -> Tomogram:
    """`result` with everything that a tomogram of the catalogue has.

    Parameters
    ----------
    result
        Of the scan.
    scan
        Where it comes from.
    title
        What to call it; its id, too, for there is no run.

    Returns
    -------
    Tomogram
        Arrays `volume`, `physics`, `expected_error`, `inferred` and `preview`, all in memory.
    """
    names = ("volume", "physics", "expected_error", "inferred", "preview")
    used, stored = result.history[-1].angles_used, len(scan.angles)
    return Tomogram(
        id=title,
        title=title,
        arrays={name: SlicesInMemory(getattr(result, name)) for name in names},
        metadata={
            **result.metadata,
            "status": "final",
            "reason": f"{used} of {stored} projections used",
            "status_time": time.time(),
            "software": signature(),
            "geometry": {"axis": result.calibration.axis, "pixel_size_nm": scan.pixel_size_nm},
            "quality": result.statement.document(),
        },
        revision=result.history[-1].revision,
        progress=result.history,
        angles=scan.angles.tolist(),
        source=scan.source,
    )
