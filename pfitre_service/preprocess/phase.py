"""Phase retrieval from one distance, for a sample of one material."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pfitre_service.preprocess.parameters import PhaseParameters

_WAVELENGTH_NM_KEV = 1.2398419843
"""h c in nm keV."""
_LENGTHS = 6
"""Decay lengths of the filter that edges are continued for."""


def retrieve(transmission: NDArray[np.float32], parameters: PhaseParameters, bin: int) -> NDArray[np.float32]:
    """Single-distance phase retrieval for a sample of one material (Paganin et al. 2002, Journal of Microscopy 206,
    33-40, eq. 10), T being the thickness along the ray:

        exp(-mu T) = F^-1[ F[I / I0] / (1 + pi lambda z (delta / beta) (u^2 + v^2)) ]

    with mu = 4 pi beta / lambda and u, v in cycles per length. The filter leaves the mean as it is. It reaches sqrt(pi
    lambda z delta / beta) / (2 pi) far; edges are continued by their last value for six times that, to keep opposite
    sides apart.

    Parameters
    ----------
    transmission
        (angle, row, column) float32 that holds fringes.
    parameters
        Energy, distance, pixel size and delta / beta.
    bin
        Pixels that were put together, along each axis.

    Returns
    -------
    NDArray[np.float32]
        exp(-mu T), (angle, row, column) float32; `transmission` itself where phase retrieval is off.
    """
    if parameters.delta_over_beta == 0:
        return transmission
    from algotom.prep.filtering import fresnel_filter, make_fresnel_window  # imports numba: seconds

    wavelength = _WAVELENGTH_NM_KEV / parameters.energy_kev
    pixel = parameters.pixel_size_nm * bin
    reach = math.pi * wavelength * parameters.distance_mm * 1e6 * parameters.delta_over_beta / pixel**2
    rows, columns = transmission.shape[1:]
    pad = math.ceil(_LENGTHS * math.sqrt(reach) / (2 * math.pi))
    window = make_fresnel_window(rows + 2 * pad, columns + 2 * pad, reach, 2)
    retrieved = np.empty_like(transmission)
    for index, frame in enumerate(transmission):
        wide = np.pad(frame, pad, mode="edge")
        smooth = fresnel_filter(wide, reach, dim=2, window=window, pad=0, apply_log=False)
        retrieved[index] = smooth[pad : pad + rows, pad : pad + columns]
    return retrieved
