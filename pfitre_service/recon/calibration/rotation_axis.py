"""The rotation axis from the projections themselves, limited angles included.

With the axis at a, and x_a the Tikhonov volume of a few conjugate-gradient steps, the residual that comes for nothing

    r(a) = ||A x_a - y_a||^2 / ||y||^2 = (<x_a, K x_a> - 2 <x_a, b_a> + c) / c

is smallest where the projections agree with each other. K does not depend on the axis, and a projection that lies d
columns further right is one whose axis does: every candidate is a slab of its own in one set of accumulators. The
search goes from binned columns to fine ones, each round around what the last one found.

How far it may be believed. A wrong axis looks like a sample that stands elsewhere, 1 = alpha cos t + beta sin t, but
for what this leaves over: `leverage`, 0.7 to 1 for 180 degrees, 0.06 for 70 and 0.005 for 20. What the discrete
model leaves unexplained (`_MODEL_ERROR`) counts as much as it is divided by the leverage; noise counts by the curvature
of r (the least-squares variance). A sample that reaches out of the field of view pulls the minimum to the middle of the
detector, so there only mirrored projections, y_(t+180)(c) = y_t(2 a - c), are asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.calibration.detector_rows import binned, shifted_columns, without_noise
from pfitre_service.recon.operators.data_term import squared_residual
from pfitre_service.recon.operators.normal_equations import NormalEquations
from pfitre_service.recon.solvers.conjugate_gradient import circulant_preconditioner, conjugate_gradient

FEWEST_ANGLES = 8
"""With fewer nothing is looked for."""
MOST_UNCERTAIN = 1.0
"""Columns; what is found with more doubt than this is not used."""
_REACH = 0.2
"""How far from the detector's middle the axis may lie, as a share of the width."""
_ROUNDS = ((64, 64), (160, 96), (320, 64))
"""Widths in binned columns, and numbers of angles, of the rounds; there are no more of them than the data have."""
_RHO_SHARE = 0.03
_ITERATIONS = 10
_MODEL_ERROR = 0.06
"""Columns by which projections of the model and of the world disagree where noise does not count."""
_OUTSIDE = 0.15
"""A sample reaches out of the field of view when the mean over its edge columns is this share of the whole mean."""
_MIRROR_TOLERANCE = 1.0
"""Degrees by which two projections may miss the 180 that make them a pair."""


@dataclass(frozen=True, slots=True)
class AxisFound:
    """What a search came to."""

    axis: float
    """Column; the middle of the detector where nothing clear was found."""
    uncertainty: float
    """Columns, one standard deviation; infinite where nothing clear was found."""
    doubt: str = ""
    """Why nothing was found; empty where it was."""


def find_axis(rows: Tensor, angles: Tensor, *, shifts: Tensor | None = None) -> AxisFound:
    """The rotation axis of projections.

    Parameters
    ----------
    rows
        (angle, slices, columns) float32 line integrals of a few bright slices.
    angles
        (angle,) degrees.
    shifts
        (angle,) columns by which each projection lies right of where it should; None for zero.

    Returns
    -------
    AxisFound
        The axis and its uncertainty, or why there is none.
    """
    middle = (rows.shape[2] - 1) / 2
    if len(angles) < FEWEST_ANGLES:
        return AxisFound(middle, math.inf, f"{len(angles)} angles are too few to find it")
    if shifts is not None:
        rows = shifted_columns(rows, -shifts[:, None])
    if _reaches_out(rows):
        return _from_mirrored(rows, angles, middle)
    lever = leverage(angles)
    if _MODEL_ERROR / max(lever, 1e-9) > MOST_UNCERTAIN:
        return AxisFound(middle, math.inf, f"the angles span too little to find it (leverage {lever:.3f})")
    return _by_free_residual(rows, angles, middle, lever)


def leverage(angles: Tensor) -> float:
    """Root mean square of what alpha cos t + beta sin t leaves of 1.

    Parameters
    ----------
    angles
        (angle,) degrees.

    Returns
    -------
    float
        0 to 1; the larger, the better the axis can be told from a sample that stands elsewhere.
    """
    radians = torch.deg2rad(angles.double())
    basis = torch.stack((radians.cos(), radians.sin()), dim=1)
    ones = torch.ones(len(angles), 1, dtype=torch.float64)
    left = ones - basis @ (torch.linalg.pinv(basis) @ ones)
    return float(left.square().mean().sqrt())


@dataclass(frozen=True, slots=True)
class _Minimum:
    axis: float
    spread: float
    """Standard deviation from noise, columns."""
    at_edge: bool
    """Whether the residual may fall further beyond the candidates."""


def _by_free_residual(rows: Tensor, angles: Tensor, middle: float, lever: float) -> AxisFound:
    """From coarse to fine: every round looks at binned columns half a bin apart, around what the one before found."""
    columns, rows = rows.shape[2], without_noise(rows)
    best, reach = _Minimum(middle, math.inf, False), _REACH * columns
    for width, most in _ROUNDS:
        chosen = _spread_over(angles, most)
        part, factor = (rows[chosen], angles[chosen]), math.ceil(columns / width)
        step = factor if reach > 4 * factor else factor / 2
        best, way = _minimum(*part, best.axis, reach, step, factor), 0.0
        while best.at_edge and abs(best.axis - middle) <= _REACH * columns - step:
            before, best = best, _minimum(*part, best.axis, reach, step, factor)
            if way * (best.axis - before.axis) < 0:
                break  # it turned back: the minimum is beyond either edge, and would be for ever
            way = best.axis - before.axis
        if best.at_edge:
            return AxisFound(middle, math.inf, f"the residual falls up to {best.axis:.1f}, the edge of the search")
        if factor == 1 and step < 1:
            break
        reach = 1.5 * step
    uncertainty = math.hypot(best.spread, _MODEL_ERROR / lever)
    if uncertainty > MOST_UNCERTAIN:
        doubt = f"the minimum at {best.axis:.1f} is uncertain by {uncertainty:.1f} columns"
        return AxisFound(middle, math.inf, doubt)
    return AxisFound(best.axis, uncertainty)


def _minimum(rows: Tensor, angles: Tensor, centre: float, reach: float, step: float, factor: int) -> _Minimum:
    """The least residual among candidates `step` apart, and between them by a parabola."""
    count = math.floor(reach / step)
    offsets = step * torch.arange(-count, count + 1, dtype=torch.float64)
    narrow = binned(rows, factor)
    residuals = _free_residuals(narrow, angles, (centre + offsets - (factor - 1) / 2) / factor)
    place = int(residuals.argmin())
    if place in (0, 2 * count):
        return _Minimum(centre + float(offsets[place]), math.inf, True)
    below, least, above = residuals[place - 1 : place + 2].tolist()
    curvature = (below - 2 * least + above) / step**2
    axis = centre + float(offsets[place]) - (above - below) / (2 * step * curvature)
    return _Minimum(axis, math.sqrt(2 * least / (narrow.numel() * curvature)), False)


def _free_residuals(rows: Tensor, angles: Tensor, axes: Tensor) -> Tensor:
    """r(a) for every axis (candidate,) in columns of `rows` (angle, slices, columns): (candidate,) float64."""
    count, slices, columns = rows.shape
    middle = (columns - 1) / 2
    moves = (middle - axes).to(rows.device)
    margin = int(moves.abs().max()) + 1
    padded = torch.nn.functional.pad(rows, (margin, margin))
    moved = shifted_columns(
        padded[:, None].expand(-1, len(axes), -1, -1), moves[None, :, None].expand(count, -1, slices)
    )
    geometry = ScanGeometry.from_detector(rows=slices, columns=columns + 2 * margin)
    data = NormalEquations(geometry, slices=len(axes) * slices, device=rows.device)
    data.add(moved.flatten(1, 2), angles)
    rho = _RHO_SHARE * data.weight
    x = conjugate_gradient(
        lambda v: data.normal(v) + rho * v,
        data.b,
        torch.zeros_like(data.b),
        iterations=_ITERATIONS,
        preconditioner=circulant_preconditioner(data, rho),
    )
    left = (squared_residual(data, x) / data.energy.clamp_min(1e-30)).reshape(len(axes), slices)
    weights = rows.double().square().sum((0, 2)).sqrt()  # the axis may lean: one bright slice is not to decide alone
    return left @ (weights / weights.sum().clamp_min(1e-30)).to(left.device)


def _spread_over(angles: Tensor, most: int) -> Tensor:
    """Indices of at most `most` angles, evenly taken from them in order of size."""
    order = angles.argsort()
    return order[torch.linspace(0, len(order) - 1, min(most, len(order))).round().long()]


def _reaches_out(rows: Tensor) -> bool:
    width = max(1, rows.shape[2] // 32)
    edge = max(float(rows[..., :width].mean()), float(rows[..., -width:].mean()))
    return edge > _OUTSIDE * float(rows.mean())


def _from_mirrored(rows: Tensor, angles: Tensor, middle: float) -> AxisFound:
    """From pairs 180 degrees apart: the axis at which one is best the other's mirror image, over what both see."""
    pairs = _mirrored_pairs(angles)
    if not len(pairs):
        doubt = "the sample reaches out of the field of view and no two projections are 180 degrees apart"
        return AxisFound(middle, math.inf, doubt)
    first, second = rows[pairs[:, 0]], rows[pairs[:, 1]].flip(2)
    reach = int(2 * _REACH * rows.shape[2])
    misfits = torch.stack([_misfit(first, second, move) for move in range(-reach, reach + 1)])
    place = int(misfits.argmin())
    if place in (0, 2 * reach):
        return AxisFound(middle, math.inf, "no axis within reach makes projections 180 degrees apart mirror images")
    below, least, above = misfits[place - 1 : place + 2].tolist()
    move = place - reach - (above - below) / (2 * (below - 2 * least + above))
    return AxisFound(middle + move / 2, 0.5)


def _mirrored_pairs(angles: Tensor) -> Tensor:
    """(pair, 2) indices of projections 180 degrees apart, each first one with the nearest."""
    apart = (angles[None, :] - angles[:, None] - 180).abs()
    nearest = apart.min(dim=1)
    first = (nearest.values <= _MIRROR_TOLERANCE).nonzero()[:, 0]
    return torch.stack((first, nearest.indices[first]), dim=1)


def _misfit(first: Tensor, second: Tensor, move: int) -> Tensor:
    """1 - correlation of `first` with `second` moved by so many columns, where they overlap."""
    columns = first.shape[2]
    a = first[..., max(move, 0) : columns + min(move, 0)]
    b = second[..., max(-move, 0) : columns + min(-move, 0)]
    a, b = (part - part.mean(2, keepdim=True) for part in (a, b))
    return 1 - (a * b).sum().double() / (a.square().sum() * b.square().sum()).sqrt().clamp_min(1e-30)
