"""Stripes of the sinogram, which become rings: what each detector pixel adds to all line integrals.

A projection is preprocessed alone, so the stripes must be known before it is added. They are found from sums over the
projections that have passed, and frozen: a profile (row, column) that is subtracted like a second dark field, after
the logarithm. Sums are kept for sectors of equal angle, for a stripe stays where it is while a feature of the sample
moves on from sector to sector.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy  # its `ndimage` is loaded where it is used: it costs each start of a process half a second
from numpy.typing import NDArray

from pfitre_service.model import FrameBatch, Measurement
from pfitre_service.preprocess.line_integrals import to_line_integrals
from pfitre_service.preprocess.parameters import PreprocessParameters
from pfitre_service.preprocess.references import References

_SECTOR = 5.625
"""Degrees; 32 sectors make 180 degrees, and opposite directions share one."""
_FEWEST = {"auto": 30, "sorting": 12}
"""Sectors that a scan must fill, some 170 and some 65 degrees: over a smaller angle more of the sample stays where it
is, and looks like a stripe."""
_BLOCKS = 6
"""Parts of the scan, next to each other in angle, in which a steady stripe must be the same."""
_NARROW = 5
"""Columns of the median that a steady stripe stands out from."""
_SIGMAS = 3.0
"""A steady stripe is this many standard errors, over the parts of the scan, away from zero."""
_EVERYWHERE = 4.0
"""Median over all pixels of (mean / standard error)^2 above which all columns are taken for striped: chance alone gives
0.53 (Student's t of five degrees of freedom), the twin's samples without stripes at most 1.7, the tooth 6.7."""
_WIDE = 1 / 20
"""Of the detector's width: the median that wide stripes stand out from, where all columns are striped."""
_WORTH_WHILE = 1e-3
"""A profile weaker than this share of the largest mean line integral (root mean square) is none."""


class StripeSearch:
    """Looks for stripes in the projections that pass by; holds up to 32 times the size of a frame, float32. The
    parameters are those of `to_line_integrals`.

    Parameters
    ----------
    references
        Without a profile of stripes; None for none.
    parameters
        Of the chain; `stripes` says how stripes are sought.
    measurement
        What the projections hold.
    """

    def __init__(
        self, references: References | None, parameters: PreprocessParameters, measurement: Measurement
    ) -> None:
        self._references = references or References.from_frames()
        self._parameters = parameters
        self._measurement: Measurement = measurement
        self._sums: dict[int, NDArray[np.float32]] = {}
        self._counts: dict[int, int] = {}
        self._rows = 0

    def add(self, batch: FrameBatch) -> None:
        """Adds projections, if they are the next; rows that are in, or too early, pass by.

        Parameters
        ----------
        batch
            As they lie in the store, not corrected.
        """
        seen = self._rows - batch.first
        if self._parameters.stripes == "off" or not 0 <= seen < len(batch.images):
            return
        self._rows = batch.first + len(batch.images)
        rays = None if batch.ray_weights is None else batch.ray_weights[seen:]
        corrected = to_line_integrals(batch.images[seen:], self._references, self._parameters, self._measurement, rays)
        rows, angles = range(batch.first + seen, self._rows), batch.angles[seen:].tolist()
        for row, frame, angle, unusable in zip(rows, corrected.values, angles, corrected.unusable, strict=True):
            if not unusable and row not in batch.damaged:
                sector = int(angle % 180.0 // _SECTOR)
                self._sums[sector] = self._sums.get(sector, np.float32(0)) + frame
                self._counts[sector] = self._counts.get(sector, 0) + 1

    def found(self) -> References | None:
        """The references with the profile of the stripes in all projections so far; None where there are none."""
        profile = self.profile()
        return None if profile is None else replace(self._references, stripes=profile)

    def profile(self) -> NDArray[np.float32] | None:
        """What to subtract from every projection, (row, column) in line integrals; None where no stripes are found.

        "auto": how far the mean of a column stands out from the median of its neighbourhood. Where columns all over the
        detector do, wide stripes are sought as well; elsewhere the profile is shrunk to nothing where it differs
        between parts of the scan. "sorting": the mean of what algotom's sorting (Vo, Atwood, Drakopoulos 2018,
        algorithm 3) takes off the sinogram of the sectors, once for wide stripes and once more for narrower ones.
        They need scans of some 170 and some 65 degrees.
        """
        method = self._parameters.stripes
        if method == "off" or len(self._sums) < _FEWEST[method]:
            return None
        means = self._sectors()
        found = _standing_out(means) if method == "auto" else _by_sorting(means)
        scale = float(np.abs(means.mean(axis=0)).max())
        strength = float(np.sqrt(np.mean(np.square(found))))
        return found.astype(np.float32) if strength > _WORTH_WHILE * scale else None

    def _sectors(self) -> NDArray[np.float32]:
        """(sector, row, column): means, in the order of the scan, beginning after the largest gap."""
        sectors = np.array(sorted(self._sums))
        gaps = np.diff(sectors, append=sectors[0] + round(180 / _SECTOR))
        ordered = np.roll(sectors, -(int(np.argmax(gaps)) + 1))
        return np.stack([self._sums[sector] / np.float32(self._counts[sector]) for sector in ordered.tolist()])


def _standing_out(means: NDArray[np.float32]) -> NDArray[np.float32]:
    outstanding = _from_median(means, _NARROW)
    parts = np.stack([part.mean(axis=0) for part in np.array_split(outstanding, _BLOCKS)])
    mean: NDArray[np.float32] = outstanding.mean(axis=0)
    error = parts.std(axis=0, ddof=1) / np.sqrt(np.float32(_BLOCKS))
    known = error > 0
    if known.any() and np.median(np.square(mean[known] / error[known])) > _EVERYWHERE:
        return mean + _from_median(means - mean, _wide(means)).mean(axis=0)
    doubt = np.divide(_SIGMAS * error, np.abs(mean), out=np.ones_like(mean), where=np.abs(mean) > _SIGMAS * error)
    return mean * (1 - np.square(doubt))


def _from_median(means: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """How far each value stands out from the median of so many columns around it."""
    outstanding = np.empty_like(means)
    for place in np.ndindex(means.shape[:2]):  # of one row SciPy's median is twenty times as fast as of an image
        outstanding[place] = means[place] - scipy.ndimage.median_filter(means[place], size=columns, mode="nearest")
    return outstanding


def _wide(means: NDArray[np.float32]) -> int:
    return max(_NARROW, 2 * round(means.shape[2] * _WIDE / 2) + 1)


def _by_sorting(means: NDArray[np.float32]) -> NDArray[np.float32]:
    from algotom.prep.removal import remove_stripe_based_sorting  # imports numba: seconds

    found = np.zeros(means.shape[1:], np.float32)
    for size in (_wide(means), max(_NARROW, _wide(means) // 3)):
        for row in range(means.shape[1]):
            sinogram = means[:, row] - found[row]
            found[row] += (sinogram - remove_stripe_based_sorting(sinogram, size)).mean(axis=0)
    return found
