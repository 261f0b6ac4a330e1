"""Where detector pixels and voxels of a tomogram lie, from its metadata: for notebooks, files and EPICS alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Lengths:
    """Where detector pixels and voxels lie, in nm where the run said how large a pixel is, else in pixels."""

    unit: str
    """nm or pixel."""
    pixel: float
    """Of the detector, as the frames are stored."""
    bin: int
    """Pixels along the side of a voxel."""
    first_row: int
    """Of the detector, in the first slice."""

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Lengths:
        """From a tomogram's metadata; binning and region are those that its volume was made with."""
        preprocess = (metadata.get("parameters") or {}).get("preprocess") or {}
        phase = preprocess.get("phase") or {}
        said = (metadata.get("geometry") or {}).get("pixel_size_nm") or phase.get("pixel_size_nm")
        unit, pixel = ("nm", float(said)) if said else ("pixel", 1.0)
        rows = preprocess.get("rows") or (0, 0)
        return cls(unit, pixel, int(preprocess.get("bin") or 1), int(rows[0]))

    @property
    def voxel(self) -> float:
        """Side of a voxel."""
        return self.pixel * self.bin

    def detector(self, count: int) -> NDArray[np.float64]:
        """(row,) or (column,): middles of `count` pixels from the first one's middle."""
        return self.pixel * np.arange(count, dtype=np.float64)

    def heights(self, slices: int) -> NDArray[np.float64]:
        """(z,): middles of slices, from the middle of the detector's first row."""
        return self.voxel * np.arange(slices, dtype=np.float64) + self.pixel * (self.first_row + (self.bin - 1) / 2)

    def across(self, size: int) -> NDArray[np.float64]:
        """(y,) or (x,): middles of voxels from the rotation axis, which is the middle of a slice."""
        return self.voxel * (np.arange(size, dtype=np.float64) - (size - 1) / 2)
