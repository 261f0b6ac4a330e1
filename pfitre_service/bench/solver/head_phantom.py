"""The Shepp-Logan head (Shepp & Logan 1974, contrast of Toft 1996): the slice that everybody compares on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ELLIPSES = (  # value added, half axes, centre (x, y with y up), rotation in degrees; in units of half the slice
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


def shepp_logan(size: int) -> NDArray[np.float32]:
    """(size, size) float32, values 0 to 1."""
    centred = (2 * np.arange(size) - (size - 1)) / size
    x, y = centred[None, :], -centred[:, None]
    image = np.zeros((size, size))
    for value, a, b, x0, y0, degrees in _ELLIPSES:
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        along, across = (x - x0) * cosine + (y - y0) * sine, (y - y0) * cosine - (x - x0) * sine
        image[(along / a) ** 2 + (across / b) ** 2 <= 1] += value
    return image.astype(np.float32)
