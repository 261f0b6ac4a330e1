"""Families of random phantoms: what a network is trained on, and what it is held to account on.

Each family varies widely from draw to draw; the held-back ones share no generator with the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.twin.families.catalyst import catalyst
from pfitre_service.twin.families.cell import cell
from pfitre_service.twin.families.circuit import circuit
from pfitre_service.twin.families.crystals import foam, grains, polyhedra
from pfitre_service.twin.families.family import Confined, Family, Pattern, Whole
from pfitre_service.twin.families.fibres import fibres
from pfitre_service.twin.families.grating import grating
from pfitre_service.twin.families.layered import layered
from pfitre_service.twin.families.leaves import blobs, dead_leaves
from pfitre_service.twin.families.mixture import Mixture
from pfitre_service.twin.families.outlines import confine
from pfitre_service.twin.families.samples import chip_slab, particle_slab
from pfitre_service.twin.families.texture import porous, texture
from pfitre_service.twin.families.weave import weave

__all__ = ["HELD_BACK_FAMILIES", "TRAINING_FAMILIES", "Family", "confine", "draw"]

_PATTERNS: dict[str, Pattern] = {
    "dead_leaves": dead_leaves,
    "texture": texture,
    "circuit": circuit,
    "grating": grating,
    "porous": porous,
    "grains": grains,
    "foam": foam,
    "fibres": fibres,
    "layered": layered,
    "blobs": blobs,
    "polyhedra": polyhedra,
}

TRAINING_FAMILIES: dict[str, Family] = {
    **{name: Confined(pattern) for name, pattern in _PATTERNS.items()},
    "mixture": Confined(Mixture(tuple(_PATTERNS.values()))),
}

HELD_BACK_FAMILIES: dict[str, Family] = {
    "layered_chip": chip_slab,
    "battery_particle": particle_slab,
    "catalyst": Whole(catalyst),
    "cell": Whole(cell),
    "weave": Whole(weave),
}


def draw(name: str, shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """One phantom of a family.

    Parameters
    ----------
    name
        A key of `TRAINING_FAMILIES` or `HELD_BACK_FAMILIES`.
    shape
        (z, y, x), slices square.
    rng
        Whose state decides.

    Returns
    -------
    NDArray[np.float32]
        (z, y, x), relative attenuation, the densest 0.6 to 1, air 0.

    Raises
    ------
    InputError
        Neither table has that name.
    """
    families = {**TRAINING_FAMILIES, **HELD_BACK_FAMILIES}
    if name not in families:
        raise InputError(f"no phantom family is called {name!r}; choose one of {', '.join(sorted(families))}")
    return families[name](shape, rng)
