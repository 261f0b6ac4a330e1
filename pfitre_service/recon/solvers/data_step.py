"""The data step: what the measured rays make of a guess.

    argmin_x 1/2 ||A x - y||^2_W + rho/2 ||x - z||^2          (K + rho) x = b + rho z, by conjugate gradients

ADMM has one in each step, the network's rounds one after each answer.
"""

from __future__ import annotations

from torch import Tensor

from pfitre_service.recon.operators.data_term import DataTerm
from pfitre_service.recon.solvers.conjugate_gradient import circulant_preconditioner, conjugate_gradient


def data_step(data: DataTerm, z: Tensor, rho: float, start: Tensor, iterations: int, accuracy: float = 0.0) -> Tensor:
    """argmin_x 1/2 ||A x - y||^2_W + rho/2 ||x - z||^2, by preconditioned conjugate gradients.

    Parameters
    ----------
    data
        The measured rays.
    z
        (slices, size, size) float32, what x is drawn to.
    rho
        Pull towards z, absolute.
    start
        (slices, size, size) float32, where the iterations begin.
    iterations
        At most.
    accuracy
        As `conjugate_gradient` has it.

    Returns
    -------
    Tensor
        (slices, size, size) float32.
    """
    return conjugate_gradient(
        lambda v: data.normal(v) + rho * v,
        data.b + rho * z,
        start,
        iterations=iterations,
        accuracy=accuracy,
        preconditioner=circulant_preconditioner(data, rho),
    )
