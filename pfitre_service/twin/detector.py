"""What a detector makes of line integrals: counts with noise. Pure numerics; the devices stand in devices.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pfitre_service.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraParameters:
    """A camera that counts transmitted photons.

    Raises
    ------
    InputError
        A value lies outside of what it can be.
    """

    photons: float = 10_000.0
    """Mean photons, and counts, per pixel and frame without sample: the dose."""
    dark_counts: float = 100.0
    """Mean counts without beam."""
    dark_noise: float = 2.0
    """Standard deviation of the counts without beam."""
    flat_structure: float = 0.2
    """Relative depth of the fixed pattern: half of it a smooth beam profile, the rest differs from pixel to pixel."""
    dead_share: float = 0.0
    """Share of pixels that always give zero."""
    hot_share: float = 0.0
    """Share of pixels that always give the largest count."""

    def __post_init__(self) -> None:
        if not (self.photons > 0 and self.dark_counts >= 0 and self.dark_noise >= 0):
            raise InputError(
                "a camera needs photons above 0, dark_counts and dark_noise of 0 or more; "
                f"got {self.photons}, {self.dark_counts}, {self.dark_noise}"
            )
        if not (0 <= self.flat_structure < 1 and 0 <= self.dead_share < 1 and 0 <= self.hot_share < 1):
            raise InputError(
                "flat_structure, dead_share and hot_share lie between 0 and 1; "
                f"got {self.flat_structure}, {self.dead_share}, {self.hot_share}"
            )


class Camera:
    """One camera: its fixed pattern and its stream of random numbers. The same seed gives the same frames again.

    Parameters
    ----------
    shape
        (rows, columns).
    parameters
        Dose, noise and pattern; the defaults for None.
    seed
        Of pattern, bad pixels and noise.
    """

    def __init__(self, shape: tuple[int, int], parameters: CameraParameters | None = None, *, seed: int = 0) -> None:
        self._parameters = parameters or CameraParameters()
        self._random = np.random.default_rng(seed)
        self._pattern = _fixed_pattern(shape, self._parameters.flat_structure, self._random)
        draw = self._random.random(shape)
        self._dead = draw < self._parameters.dead_share
        self._hot = draw > 1 - self._parameters.hot_share

    @property
    def pattern(self) -> NDArray[np.float32]:
        """(row, column), expected photons of a flat over the mean dose."""
        return self._pattern

    def projection(self, line_integrals: NDArray[np.float32]) -> NDArray[np.uint16]:
        """One frame of a sample.

        Parameters
        ----------
        line_integrals
            (row, column).

        Returns
        -------
        NDArray[np.uint16]
            (row, column), counts.
        """
        return self._read_out(self._parameters.photons * self._pattern * np.exp(-line_integrals))

    def flat(self) -> NDArray[np.uint16]:
        """(row, column), counts of one frame without sample."""
        return self._read_out(self._parameters.photons * self._pattern)

    def dark(self) -> NDArray[np.uint16]:
        """(row, column), counts of one frame without beam."""
        return self._read_out(np.zeros_like(self._pattern))

    def _read_out(self, expected: NDArray[np.float32]) -> NDArray[np.uint16]:
        photons = self._random.poisson(expected)
        offset = self._random.normal(self._parameters.dark_counts, self._parameters.dark_noise, expected.shape)
        largest = np.iinfo(np.uint16).max
        counts = np.clip(np.rint(photons + offset), 0, largest).astype(np.uint16)
        counts[self._dead] = 0
        counts[self._hot] = largest
        return counts


class FluorescenceDetector:
    """A detector whose signal grows with the line integral itself, scanned pixel by pixel: no flats, no logarithm.

    Parameters
    ----------
    counts_per_unit
        Mean counts per unit of line integral.
    seed
        Of the noise.

    Raises
    ------
    InputError
        `counts_per_unit` is not above 0.
    """

    def __init__(self, *, counts_per_unit: float = 2_000.0, seed: int = 0) -> None:
        if not counts_per_unit > 0:
            raise InputError(f"a fluorescence detector needs more than 0 counts per unit; got {counts_per_unit}")
        self._counts_per_unit = counts_per_unit
        self._random = np.random.default_rng(seed)

    def projection(self, line_integrals: NDArray[np.float32]) -> NDArray[np.float32]:
        """One frame of a sample, with its noise.

        Parameters
        ----------
        line_integrals
            (row, column), not negative.

        Returns
        -------
        NDArray[np.float32]
            (row, column), line integrals.
        """
        counts = self._random.poisson(line_integrals * self._counts_per_unit)
        return (counts / self._counts_per_unit).astype(np.float32)


def _fixed_pattern(shape: tuple[int, int], depth: float, random: np.random.Generator) -> NDArray[np.float32]:
    """(row, column), mean 1: smooth beam profile, vertical streaks (which make rings) and single pixels."""
    smooth = ndimage.gaussian_filter(random.normal(size=shape), sigma=max(2.0, max(shape) / 8), mode="nearest")
    smooth /= max(float(np.abs(smooth).max()), np.finfo(float).tiny)
    streaks = random.uniform(-1, 1, shape[1])[None, :]
    pixels = random.uniform(-1, 1, shape)
    pattern = 1 + depth * (0.5 * smooth + 0.25 * streaks + 0.25 * pixels)
    normalised: NDArray[np.float32] = (pattern / pattern.mean()).astype(np.float32)
    return normalised
