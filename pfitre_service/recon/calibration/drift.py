"""Per-angle drift: where each projection lies against what the others predict.

The angles are dealt, in order of size, to two halves. A volume of one half, Tikhonov as in the physics-only volume,
predicts the other half's projections, so that no projection is compared with itself:

    s_t = argmax_s  sum over rows and columns of  y_t(c) (A_t x_other)(c - s)

and the volumes are made again with the shifts found, until nothing moves. A constant is the rotation axis and a
sinusoid a sample that stands elsewhere: alpha + beta cos t + gamma sin t is fitted to the shifts by least absolute
values, which leaves out the angles that stand off, and taken away, so that these cannot wander. A shift that explains
too little, or is below `LEAST`, counts as zero: a clean scan stays as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.calibration.detector_rows import binned, shifted_columns, without_noise
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.operators.projector import Projector
from pfitre_service.recon.solvers.data_step import data_step

FEWEST_ANGLES = 16
"""With fewer, half of them predict nothing."""
LEAST = 0.2
"""Columns; smaller shifts are left alone."""
_EXPLAINED = 0.5
"""A shift must bring the squared distance from what was predicted down to this share."""
_MOST = 0.05
"""Largest shift looked for, as a share of the columns;"""
_MOST_COLUMNS = 8.0
"""and at least so many columns."""
_WIDTH = 200
"""Binned columns at most: shifts are found to a small share of a column."""
_ROUNDS = 6
_ITERATIONS = 8
_RHO_SHARE = 0.1
_FINE = 8
"""Points per column that correlations are looked at, before a parabola."""


def find_shifts(rows: Tensor, angles: Tensor, axis: float) -> Tensor:
    """The drift of each projection against what the others predict, by the method above.

    Parameters
    ----------
    rows
        (angle, slices, columns) float32 line integrals of a few slices.
    angles
        (angle,) degrees.
    axis
        Column of the rotation axis.

    Returns
    -------
    Tensor
        (angle,) float64, columns by which each projection lies right of where it should; mostly zeros.
    """
    shifts = torch.zeros(len(angles), dtype=torch.float64)
    if len(angles) < FEWEST_ANGLES:
        return shifts
    factor = math.ceil(rows.shape[2] / _WIDTH)
    narrow = binned(without_noise(rows), factor)
    geometry = ScanGeometry.from_detector(rows=1, columns=narrow.shape[2], axis=(axis - (factor - 1) / 2) / factor)
    order = angles.argsort()
    halves = (order[::2], order[1::2])
    for _ in range(_ROUNDS):
        before = shifts.clone()
        # One half after the other: if both moved at once, each would follow what the other has just left.
        for half, other in (halves, halves[::-1]):
            predicted = _foretold(narrow[other], angles[other], shifts[other] / factor, geometry, angles[half])
            shifts[half] = factor * _displacements(narrow[half], predicted)
            shifts = without_gauge(shifts, angles)
            shifts[shifts.abs() < LEAST] = 0.0
        if float((shifts - before).abs().max()) < LEAST / 4:
            break
    return shifts


def without_gauge(shifts: Tensor, angles: Tensor) -> Tensor:
    """Shifts less the alpha + beta cos t + gamma sin t nearest to them in the sum of absolute values, by iteratively
    reweighted least squares.

    Parameters
    ----------
    shifts
        (angle,) columns.
    angles
        (angle,) degrees.

    Returns
    -------
    Tensor
        (angle,) float64, columns.
    """
    radians = torch.deg2rad(angles.double())
    basis = torch.stack((torch.ones_like(radians), radians.cos(), radians.sin()), dim=1)
    weights = torch.ones(len(angles), 1, dtype=torch.float64)
    left = shifts.double()
    for _ in range(30):  # iteratively reweighted least squares
        fit = torch.linalg.pinv(weights * basis, rtol=1e-6) @ (weights[:, 0] * shifts)
        left = shifts - basis @ fit
        weights = left.abs().clamp_min(1e-3).rsqrt()[:, None]
    return left


def _foretold(rows: Tensor, angles: Tensor, shifts: Tensor, geometry: ScanGeometry, wanted: Tensor) -> Tensor:
    """Projections at the `wanted` angles (angle,) of the volume of `rows`: (angle, slices, columns)."""
    slices, columns = rows.shape[1:]
    data = NormalEquations(geometry, slices=slices, device=rows.device)
    data.add(rows, angles, shifts=shifts)
    zero = torch.zeros_like(data.b)
    x = data_step(data, zero, _RHO_SHARE * data.weight, zero, _ITERATIONS)
    projector = Projector(geometry, rows.device)
    return torch.stack([projector.project(x, math.radians(angle))[:, :columns] for angle in wanted.tolist()])


def _displacements(rows: Tensor, predicted: Tensor) -> Tensor:
    """Columns by which `rows` lie right of `predicted`, (angle,) float64; zero where that explains too little."""
    columns = rows.shape[2]
    length = 2 * columns
    cross = (torch.fft.rfft(rows, n=length) * torch.fft.rfft(predicted, n=length).conj()).sum(1)
    fine = torch.fft.irfft(cross, n=length * _FINE) * _FINE
    count = math.ceil(max(_MOST_COLUMNS, _MOST * columns) * _FINE)
    near = torch.cat((fine[:, -count:], fine[:, : count + 1]), dim=1).double()
    place = near.argmax(dim=1).clamp(1, near.shape[1] - 2)
    below, best, above = (near.gather(1, (place + k)[:, None])[:, 0] for k in (-1, 0, 1))
    found = (place - count + (above - below) / (2 * (2 * best - below - above).clamp_min(1e-30))) / _FINE
    moved = shifted_columns(predicted, found[:, None].expand(-1, rows.shape[1]))
    left, left_unmoved = ((rows - picture).square().sum((1, 2)) for picture in (moved, predicted))
    return torch.where(left < _EXPLAINED * left_unmoved, found, 0.0).cpu()
