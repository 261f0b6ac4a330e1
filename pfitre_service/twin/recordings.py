"""Real scans that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import numpy as np
import tifffile
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Projections as a beamline took them."""

    projections: NDArray[np.float32]
    """(angle, row, column), line integrals."""
    angles: NDArray[np.float64]
    """(angle,), degrees."""


def cu23() -> Recording:
    """X-ray fluorescence tomogram of a real sample: 51 angles, 96 degrees missing. Provenance: data/README.md."""
    folder = resources.files("pfitre_service.twin") / "data"
    with (folder / "cu23.tiff").open("rb") as file:
        projections = tifffile.imread(file)
    with (folder / "cu23.csv").open(encoding="ascii") as file:
        angles = np.loadtxt(file, skiprows=1)
    return Recording(projections=np.asarray(projections, np.float32), angles=angles)
