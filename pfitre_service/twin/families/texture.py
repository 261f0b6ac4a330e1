"""Random fields: textures of every roughness, and the porous bodies that thresholds cut out of them."""

from __future__ import annotations

import numpy as np

from pfitre_service.twin.families.fields import band, spectral
from pfitre_service.twin.families.grid import Floats, Grid, log_uniform


def texture(grid: Grid, rng: np.random.Generator) -> Floats:
    """A power-law field, 1 / f^a in two-dimensional terms with a from 0.8 to 2, as it is or put through a soft edge.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Whose state decides.

    Returns
    -------
    Floats
        (z, y, x), 0 to about 1.
    """
    # A field in space needs half a power more than its cuts show for the same roughness.
    power = np.float32(-(rng.uniform(0.8, 2) + 0.5))
    stretch = log_uniform(rng, 1.2, 6) if rng.random() < 0.4 else 1.0
    # Scales above this one look alike: the texture's largest structures.
    widest = np.float32(log_uniform(rng, 1, 12))
    finest = rng.choice([0.0, log_uniform(rng, 0.01, 0.06)])

    def amplitude(k: Floats) -> Floats:
        return np.hypot(k, widest) ** power * np.exp(-((k * np.float32(finest) / 2) ** 2))

    field = spectral(grid, rng, amplitude, finest=finest, stretch=stretch)
    kind = rng.random()
    if kind < 0.4:
        low, high = np.percentile(field[field.shape[0] // 2], [1, 99.5])
        return np.clip((field - np.float32(low)) / np.float32(high - low), 0, 1)
    if kind < 0.65:
        gain, level = np.float32(log_uniform(rng, 1.5, 20)), np.float32(rng.uniform(-1, 1))
        return 1 / (1 + np.exp(np.clip(-gain * (field - level), -30, 30)))
    if kind < 0.8:
        return np.exp(np.clip(-np.abs(field) * np.float32(rng.uniform(1, 6)), -30, 0))
    return np.exp(np.clip((field - 2) * np.float32(rng.uniform(0.5, 1)), -8, 0))


def porous(grid: Grid, rng: np.random.Generator) -> Floats:
    """A sponge: a field of one wavelength (or two) cut at one or two levels into two or three phases.

    Parameters
    ----------
    grid
        Of the volume.
    rng
        Whose state decides.

    Returns
    -------
    Floats
        (z, y, x), 0 to about 1.
    """
    wavelength = max(log_uniform(rng, 0.025, 0.25), 4.5 * grid.voxel)
    stretch = log_uniform(rng, 1.2, 4) if rng.random() < 0.35 else 1.0
    field = band(grid, rng, wavelength, width=rng.uniform(0.1, 0.5), stretch=stretch)
    if rng.random() < 0.4:
        coarser = min(wavelength * rng.uniform(2, 5), 0.6)
        field += np.float32(rng.uniform(0.3, 1.2)) * band(grid, rng, coarser)
        field /= np.float32(1.3)
    if rng.random() < 0.25:
        field = np.float32(0.9) - np.abs(field)
    # The field's slope turns its height above a level into a distance.
    slope = np.float32(wavelength / (2 * np.pi) * 1.2)
    level = np.float32(rng.uniform(-0.7, 0.7))
    solid = grid.soft((field - level) * slope)
    pore, bulk = rng.choice([0.0, rng.uniform(0, 0.4)]), rng.uniform(0.5, 1)
    volume = np.float32(pore) + np.float32(bulk - pore) * solid
    if rng.random() < 0.5:
        thickness = np.float32(rng.uniform(0.3, 0.9))
        third = np.float32(rng.uniform(0.1, 1))
        if rng.random() < 0.5:
            other = grid.soft((field - level - thickness) * slope)
        else:
            # A coat on the walls rather than a core in the middle.
            other = grid.soft((thickness / 2 - np.abs(field - level)) * slope)
        volume += other * (third - volume)
    if rng.random() < 0.2:
        volume *= 1 + np.float32(0.15) * np.tanh(band(grid, rng, max(wavelength / 2, 4.5 * grid.voxel)))
    return volume
