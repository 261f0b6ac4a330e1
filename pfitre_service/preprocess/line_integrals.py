"""Counts in, line integrals out: l = -ln((I - D) / (F - D)), frame by frame and without memory of other frames.

What a frame becomes depends on that frame and on the references alone, never on the batch it came in or on its place in
the scan: the solver adds and removes projections one by one, and a restart must find the same values again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import InputError
from pfitre_service.model import Measurement
from pfitre_service.preprocess.parameters import PreprocessParameters
from pfitre_service.preprocess.references import References
from pfitre_service.preprocess.repair import repair_image

NO_FLATS = (
    "no flat field: the intensity without sample is estimated in every frame from its outermost columns; where the "
    "sample reaches past the field of view the values come out too low, and detector structure stays in"
)
NO_DARKS = "no dark field: the detector's offset is taken as zero, so strongly absorbing parts come out too low"
REFERENCES_UNUSED = "flats and darks are not used: the projections are said to be line integrals already"

_EDGE_SHARE = 0.05
_NONE = References(flat=None, dark=None, valid=None)


@dataclass(frozen=True, slots=True, eq=False)
class LineIntegrals:
    """A batch of projections ready for the solver, and what had to be done to make it so."""

    values: NDArray[np.float32]
    """(angle, row, column), finite everywhere; zero in unusable frames."""
    repaired: int
    """Pixel values that were dead or not finite and came from their neighbours, over all usable frames."""
    clamped: int
    """Pixel values at the floor of the transmission, over all usable frames."""
    unusable: NDArray[np.bool_]
    """(angle,), True for frames to be given weight zero."""
    reasons: tuple[str, ...]
    """One for each frame: why it is unusable; empty for a usable one."""
    warnings: tuple[str, ...]
    """What a person should know of how the values came about; the same for every batch."""


def to_line_integrals(
    images: NDArray[Any],
    references: References | None,
    parameters: PreprocessParameters,
    measurement: Measurement,
) -> LineIntegrals:
    """Line integrals of a batch of detector images, (angle, row, column) of any real dtype.

    "transmission": dark subtracted, divided by flat minus dark, transmission held at `minimum_transmission` or more,
    minus the natural logarithm. Without darks the offset is zero. Without flats the intensity I0 is one number a
    frame, taken from the outermost 5 % of its columns: per row the median over the left and over the right edge, the
    upper quartile of these over the rows, and the brighter edge of the two. That is right where the sample leaves air
    at one side at least, and does not depend on other frames; where it is not right the frame is off by a constant.
    Both cases come with a warning.

    "line_integral": the values as they are; references are not used.

    In both, dead pixels and values that are not finite are interpolated (see `repair_image`), and frames with too many
    of them, or without beam, are marked unusable. Memory: up to about one and a half times the result, beside it.
    Raises InputError when images are not real numbers in three dimensions or do not fit the references.
    """
    references = references or _NONE
    values = _as_float32(images, references if measurement == "transmission" else _NONE)
    if measurement == "line_integral":
        warnings = (REFERENCES_UNUSED,) if references.shape is not None else ()
        return _finish(values, ~np.isfinite(values), None, parameters, warnings)
    bad = ~np.isfinite(values)
    if references.valid is not None:
        bad |= ~references.valid
    values[bad] = 1  # out of the way of the arithmetic; repaired at the end
    _divide_by_beam(values, references, bad)
    bad |= np.isinf(values)
    blocked = (values < parameters.minimum_transmission) & ~bad
    np.maximum(values, np.float32(parameters.minimum_transmission), out=values)
    np.log(values, out=values)
    np.negative(values, out=values)
    return _finish(values, bad, blocked, parameters, _warnings(references))


def _as_float32(images: NDArray[Any], references: References) -> NDArray[np.float32]:
    images = np.asarray(images)
    if images.ndim != 3 or images.dtype.kind not in "biuf":
        raise InputError(
            f"projections must be real numbers of shape (angles, rows, columns); got {images.dtype} of shape "
            f"{images.shape}"
        )
    if references.shape is not None and references.shape != images.shape[1:]:
        raise InputError(
            f"projections of (rows, columns) {images.shape[1:]} do not fit flats and darks of {references.shape}: "
            "take references with the same region of interest and binning"
        )
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite and is repaired as such
        return images.astype(np.float32)


def _divide_by_beam(values: NDArray[np.float32], references: References, bad: NDArray[np.bool_]) -> None:
    """From counts to transmission, in place; bad pixels hold any number afterwards."""
    dark = np.float32(0) if references.dark is None else np.nan_to_num(references.dark, nan=0.0)
    values -= dark
    with np.errstate(over="ignore"):  # absurdly large counts become infinite and are repaired as such
        if references.flat is None or references.valid is None:
            air = [_air(frame, lost) for frame, lost in zip(values, bad, strict=True)]
            values /= np.array(air, np.float32).reshape(-1, 1, 1)
        else:
            values /= np.where(references.valid, references.flat - dark, np.float32(1))


def _air(frame: NDArray[np.float32], bad: NDArray[np.bool_]) -> float:
    """Counts without sample, from the edges of one dark-subtracted frame (row, column).

    Infinite where the edges are dark or dead: nothing gets through then, and the frame is judged to have no beam.
    """
    width = max(1, round(_EDGE_SHARE * frame.shape[1]))
    brightest = 0.0
    for edge in (slice(None, width), slice(-width, None)):
        rows = ~bad[:, edge].any(axis=1)
        if rows.any():
            level = np.quantile(np.median(frame[rows, edge], axis=1), 0.75)
            brightest = max(brightest, float(level))
    return brightest if brightest > 0 else float("inf")


def _finish(
    values: NDArray[np.float32],
    bad: NDArray[np.bool_],
    blocked: NDArray[np.bool_] | None,
    parameters: PreprocessParameters,
    warnings: tuple[str, ...],
) -> LineIntegrals:
    """Judge every frame, repair the usable ones in place and empty the others."""
    reasons = []
    repaired = clamped = 0
    for index, (frame, lost) in enumerate(zip(values, bad, strict=True)):
        floor = 0 if blocked is None else int(np.count_nonzero(blocked[index]))
        reason = _why_unusable(lost, floor, parameters)
        reasons.append(reason)
        if reason:
            frame[...] = 0
            continue
        repair_image(frame, lost)
        repaired += int(np.count_nonzero(lost))
        clamped += floor
    unusable = np.array([bool(reason) for reason in reasons], dtype=np.bool_)
    return LineIntegrals(values, repaired, clamped, unusable, tuple(reasons), warnings)


def _why_unusable(bad: NDArray[np.bool_], at_floor: int, parameters: PreprocessParameters) -> str:
    lost = np.count_nonzero(bad)
    if lost > parameters.maximum_bad_share * bad.size:
        return (
            f"{lost / bad.size:.0%} of the pixels are dead or not finite, more than the "
            f"{parameters.maximum_bad_share:.0%} that are repaired"
        )
    good = bad.size - lost
    if at_floor > parameters.maximum_blocked_share * good:
        return (
            f"{at_floor / good:.0%} of the pixels have a transmission below {parameters.minimum_transmission:g}: "
            "no beam in this frame"
        )
    return ""


def _warnings(references: References) -> tuple[str, ...]:
    missing = ((references.flat, NO_FLATS), (references.dark, NO_DARKS))
    return tuple(text for image, text in missing if image is None)
