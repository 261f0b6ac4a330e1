"""What speaks against a scan, by everything that looks at it: the one place where findings are joined.

Live worker, stored files, `reconstruct()` and `pfitre doctor` all ask here, so that a scan is doubted alike by each.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from pfitre_service.errors import InputError
from pfitre_service.model import Finding, Measurement
from pfitre_service.preprocess.references import References
from pfitre_service.preprocess.value_plausibility import (
    CONTRADICTED,
    FrameValues,
    dead_columns,
    other_than,
    value_findings,
)
from pfitre_service.recon.quality.geometry_plausibility import geometry_findings

_GROWTH = 1.25
"""Frames must have grown by this before they are looked at again, so that a long scan is looked at a few times."""
FEWEST_FRAMES = 4
"""Before so many projections nothing is said of them."""


# A protocol, because those who hold frames stand beside this module (`Accumulators`) and above it (`offline.examined`).
class FrameEvidence(Protocol):
    """What is known of the frames of one tomogram."""

    values: dict[int, FrameValues]
    """What each frame says by itself, by its row in the store."""
    references: References | None
    """Flats and darks in use."""
    measurement: Measurement
    """What images are taken to hold."""
    measurement_said: bool
    """Whether a person or a document said so."""

    def sample(self) -> tuple[Tensor, Tensor, Tensor]:
        """A few slices of every usable frame: line integrals (angle, slices, columns) float32, angles in degrees, and
        rows in the store."""
        ...


def examine(frames: FrameEvidence) -> tuple[Finding, ...]:
    """Everything that speaks against frames.

    Parameters
    ----------
    frames
        Of one tomogram.

    Returns
    -------
    tuple[Finding, ...]
        The fatal first.
    """
    sample, angles, _ = frames.sample()
    rows = sample.numpy()
    found = (
        *value_findings(frames.values, frames.references, frames.measurement, said=frames.measurement_said),
        *dead_columns(rows),
        *geometry_findings(rows, angles.numpy()),
    )
    return tuple(sorted(found, key=lambda finding: not finding.fatal))


def contradicted(findings: tuple[Finding, ...], measurement: Measurement) -> Measurement | None:
    """What the values tell the images to hold.

    Parameters
    ----------
    findings
        Of the frames.
    measurement
        What they were taken to hold.

    Returns
    -------
    Measurement | None
        None where that is not contradicted.
    """
    return other_than(measurement) if any(finding.name == CONTRADICTED for finding in findings) else None


class Examination:
    """Findings of frames that are still coming, remembered while little changes."""

    def __init__(self) -> None:
        self._of: tuple[int, int] | None = None
        self._findings: tuple[Finding, ...] = ()

    def findings(self, frames: FrameEvidence, *, at_last: bool = False) -> tuple[Finding, ...]:
        """Of the frames; looked at anew when they are others, have grown by a quarter or lost some, or `at_last`.

        Parameters
        ----------
        frames
            Of one tomogram.
        at_last
            Whether they are looked at anew in any case.

        Returns
        -------
        tuple[Finding, ...]
            The fatal first.
        """
        if self._is_due(frames, at_last=at_last):
            self._of, self._findings = (id(frames), len(frames.values)), examine(frames)
        return self._findings

    def _is_due(self, frames: FrameEvidence, *, at_last: bool) -> bool:
        number = len(frames.values)
        if self._of == (id(frames), number):
            return False
        if at_last or self._of is None or self._of[0] != id(frames) or number < self._of[1]:
            return at_last or number >= FEWEST_FRAMES or self._of is not None
        return number >= max(FEWEST_FRAMES, _GROWTH * self._of[1])


def refuse(findings: tuple[Finding, ...]) -> None:
    """Refuses a scan of which no right volume can come.

    Parameters
    ----------
    findings
        Of the scan.

    Raises
    ------
    InputError
        One of them is fatal; says all that are.
    """
    fatal = [str(finding) for finding in findings if finding.fatal]
    if fatal:
        raise InputError("; ".join(fatal))
