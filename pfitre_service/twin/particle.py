"""A porous battery particle: rounded outline, grains, pores, cracks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError

RADIUS = 0.4
"""Mean radius as a share of the slice's width."""
_BULK, _GRAIN_CONTRAST, _PORE = 0.75, 0.12, 0.05
_PORES, _CRACKS, _WAVES = 60, 4, 6


@dataclass(frozen=True, slots=True, eq=False)
class _Waves:
    """A smooth random function of place: a sum of plane waves, between about -1 and 1."""

    vectors: NDArray[np.float32]
    phases: NDArray[np.float32]

    @classmethod
    def draw(cls, rng: np.random.Generator, frequency: float) -> _Waves:
        directions = _directions(rng, _WAVES)
        return cls(
            vectors=(directions * frequency * rng.uniform(0.5, 1, (_WAVES, 1))).astype(np.float32),
            phases=rng.uniform(0, 2 * np.pi, _WAVES).astype(np.float32),
        )

    def __call__(self, place: NDArray[np.float32]) -> NDArray[np.float32]:
        total = sum(
            (np.cos(place @ vector + phase) for vector, phase in zip(self.vectors, self.phases, strict=True)),
            np.zeros(place.shape[:-1], np.float32),
        )
        return total / np.float32(_WAVES / 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Crack:
    """A bent sheet that starts at the surface and ends inside."""

    normal: NDArray[np.float32]
    direction: NDArray[np.float32]
    depth: float
    half_width: float
    bend: _Waves


def battery_particle(shape: tuple[int, int, int], *, seed: int = 0) -> NDArray[np.float32]:
    """A particle in the middle of the volume. Its radius is 0.4 of the slice's width: a volume of fewer rows shows a
    part of it. The same seed gives the same particle at every resolution with the same proportions; edges are smooth
    over one voxel.

    Parameters
    ----------
    shape
        (z, y, x), 16 voxels or more along each axis.
    seed
        Of outline, grains, pores and cracks.

    Returns
    -------
    NDArray[np.float32]
        (z, y, x), relative attenuations from 0 (air) to about 1.

    Raises
    ------
    InputError
        There are fewer voxels.
    """
    if min(shape) < 16:
        raise InputError(f"a particle needs at least 16 voxels along each axis; got {shape}")
    rng = np.random.default_rng(seed)
    outline, grains = _Waves.draw(rng, 4.0), _Waves.draw(rng, 45.0)
    pores = list(_pores(rng))
    cracks = [_crack(rng) for _ in range(_CRACKS)]
    volume = np.empty(shape, np.float32)
    voxel = 1 / shape[2]
    # One slice at a time: the intermediate fields are several times the volume.
    for z in range(shape[0]):
        place = _places(shape, z)
        distance = np.linalg.norm(place, axis=-1)
        body = _inside(RADIUS * (1 + 0.12 * outline(place / np.maximum(distance, voxel)[..., None])) - distance, voxel)
        void = np.zeros_like(body)
        for centre, radius in pores:
            if abs(float(place[0, 0, 2]) - float(centre[2])) < radius + voxel:
                np.maximum(void, _inside(radius - np.linalg.norm(place - centre, axis=-1), voxel), out=void)
        for crack in cracks:
            np.maximum(void, _opening(crack, place, voxel), out=void)
        solid = np.float32(_BULK) + np.float32(_GRAIN_CONTRAST) * grains(place)
        volume[z] = body * (solid * (1 - void) + np.float32(_PORE) * void)
    return volume


def _places(shape: tuple[int, int, int], z: int) -> NDArray[np.float32]:
    """(y, x, 3): x, y and z of every voxel of one slice, from the middle of the volume in slice widths."""
    depth, height, width = shape
    y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    return (np.stack([x, y, np.full_like(x, z - (depth - 1) / 2)], axis=-1) / width).astype(np.float32)


def _inside(distance: NDArray[np.float32], voxel: float) -> NDArray[np.float32]:
    """1 well inside a surface, 0 outside, linear over one voxel; distance is positive inside."""
    share: NDArray[np.float32] = np.clip(distance / np.float32(voxel) + np.float32(0.5), 0, 1)
    return share


def _opening(crack: _Crack, place: NDArray[np.float32], voxel: float) -> NDArray[np.float32]:
    sheet = np.abs(place @ crack.normal + np.float32(0.03) * crack.bend(place))
    reach = place @ crack.direction - np.float32(RADIUS - crack.depth)
    # The crack closes towards its tip.
    width = np.float32(crack.half_width) * np.clip(reach / np.float32(crack.depth), 0, 1)
    return np.where(reach > 0, _inside(width - sheet, voxel), np.float32(0))


def _pores(rng: np.random.Generator) -> Iterator[tuple[NDArray[np.float32], float]]:
    """Centres and radii: many small pores, a few large ones, all inside the particle."""
    for direction in _directions(rng, _PORES):
        radius = 0.012 * rng.uniform(0.08, 1) ** -0.6
        yield (direction * RADIUS * 0.85 * rng.uniform() ** (1 / 3)).astype(np.float32), float(radius)


def _crack(rng: np.random.Generator) -> _Crack:
    direction, other = _directions(rng, 2)
    normal = np.cross(direction, other)
    return _Crack(
        normal=(normal / np.linalg.norm(normal)).astype(np.float32),
        direction=direction.astype(np.float32),
        depth=float(rng.uniform(0.2, 0.5)),
        half_width=float(rng.uniform(0.008, 0.016)),
        bend=_Waves.draw(rng, 20.0),
    )


def _directions(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """(n, 3) unit vectors, evenly over the sphere."""
    vectors = rng.normal(size=(n, 3))
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
