"""What the quality benchmark measures, as a value; and by which names it calls the methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pfitre_service.errors import InputError
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.quality.similarity import WINDOW

STACK = 4
"""Slices of one object: total variation and the network both look at the slices beside each slice."""
METHODS = {
    "fbp": "FBP",
    "sirt": "SIRT",
    "tv": "TV, tuned",
    "tv_served": "TV, as served",
    "one_pass": "one pass",
    "pfitre": "PFITRE",
}
"""By key in the result: what tables call it."""


@dataclass(frozen=True, kw_only=True)
class QualityParameters:
    """The defaults are what the README's table was made with."""

    weights: str = "pfitre-s"
    """Name of the network's weights."""
    weights_folder: Path | None = None
    """A user's weights; the usual folder if None."""
    families: tuple[str, ...] = ()
    """Which of the held-back families; all if empty."""
    size: int = 128
    """Width of a slice in pixels, and of the detector."""
    slices: int = 4
    """Of each family, for each scan; rounded up to whole objects of `STACK` slices."""
    wedges: tuple[float, ...] = (0.0, 60.0, 80.0, 100.0, 120.0)
    """Degrees missing."""
    parts: tuple[float, ...] = (1 / 3, 2 / 3)
    """Shares of a scan that has only been measured so far, from its first angle on."""
    part_missing: float = 100.0
    """Degrees missing of those scans once whole."""
    counts: float = 1000.0
    """Mean photons at the largest line integral (emission, Poisson noise)."""
    sirt_iterations: int = 100
    tv_iterations: int = 150
    """At most, for each weight; it ends before when it has converged."""
    admm: AdmmParameters = field(default_factory=AdmmParameters)
    """Of PFITRE."""
    real_rows: int = 24
    """Detector rows, the middle ones, of the recording; 0 leaves it out."""
    seed: int = 2025
    jobs: int = 1
    """Processes with one thread each; 1: this process, with the threads it has."""

    def __post_init__(self) -> None:
        if self.size < 2 * WINDOW or self.slices < 1 or self.jobs < 1 or not self.wedges:
            raise InputError(
                f"slices must be {2 * WINDOW} pixels wide or more, and slices, jobs and wedges one or more; got size "
                f"{self.size}, {self.slices} slices, {self.jobs} jobs, wedges {self.wedges}"
            )
        if not all(0 <= missing < 180 for missing in (*self.wedges, self.part_missing)):
            raise InputError(f"a wedge misses 0 or more and less than 180 degrees; got {self.wedges}")
        if not (all(0 < part < 1 for part in self.parts) and self.counts > 0):
            raise InputError(
                f"parts of a scan lie between 0 and 1, and counts above 0; got {self.parts}, {self.counts}"
            )

    @property
    def objects(self) -> int:
        """Of each family."""
        return -(-self.slices // STACK)
