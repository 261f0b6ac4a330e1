"""A small tomogram in memory: every voxel tells where it lies."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from pfitre_service.export.tomogram import Tomogram
from pfitre_service.model import Progress

SHAPE = (37, 20, 24)
NM = 12.5


@dataclass
class Stored:
    """Slices that remember how many were asked for at once."""

    values: NDArray[np.float32]
    most: int = 0
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.values.shape

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        self.asked.append((first, stop))
        self.most = max(self.most, stop - first)
        return self.values[first:stop].copy()

    def cut(self, axis: int, place: int) -> NDArray[np.float32]:
        return self.values.take(place, axis)


def step(revision: int) -> Progress:
    return Progress(
        revision=revision,
        phase="final" if revision == 5 else "iterating",
        time=1000.0 + revision,
        angles_stored=31,
        angles_used=6 * revision,
        iterations=revision,
        residual=0.5 / revision,
        heldout_error=float("nan") if revision == 1 else 0.6 / revision,
        heldout_error_physics=float("nan") if revision == 1 else 0.7 / revision,
        change=0.1 / revision,
        prior_gap=0.2 / revision,
        seconds=float(revision),
    )


@pytest.fixture
def tomogram() -> Tomogram:
    values = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    metadata = {
        "status": "final",
        "reason": "31 of 31 projections used",
        "sample": "chip <7>",
        "scan_id": 42,
        "run_uids": ["5da75b34-one", "5da75b34-two"],
        "measurement": "transmission",
        "geometry": {"pixel_size_nm": NM, "axis": 11.5},
        "prior": "pfitre-s",
        "weights_sha256": "ab" * 32,
        "software": "pfitre-service 0.1.0",
        "created": 1_700_000_000.0,
        "status_time": 1_700_000_100.0,
        "heldout": {"first": 4, "every": 8},
        "parameters": {"heldout_every": 8, "recon": {"rho": 5.0, "tolerance": float("inf")}},
        "warnings": ["the axis was not found"],
    }
    return Tomogram(
        id="5da75b34-aaaa",
        arrays={"volume": Stored(values), "physics": Stored(values + 1), "expected_error": Stored(values * 0 + 2)},
        metadata=metadata,
        revision=5,
        progress=[step(revision) for revision in range(1, 6)],
        angles=[*np.arange(-60.0, 61.0, 4.0)],
        source="http://127.0.0.1:8010/api/v1/metadata/tomograms/5da75b34-aaaa",
    )
