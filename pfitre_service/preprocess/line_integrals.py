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
from pfitre_service.preprocess.measurement import Levels, levels
from pfitre_service.preprocess.not_measured import full_scale_share, not_measured
from pfitre_service.preprocess.outliers import outliers
from pfitre_service.preprocess.parameters import PreprocessParameters
from pfitre_service.preprocess.phase import retrieve
from pfitre_service.preprocess.references import References
from pfitre_service.preprocess.region import binned, cropped
from pfitre_service.preprocess.repair import repair_image
from pfitre_service.preprocess.transmission import checked, divide_by_air, divide_by_beam
from pfitre_service.preprocess.value_plausibility import FrameValues

NO_FLATS = (
    "no flat field: the intensity without sample is estimated in every frame from its outermost columns; where the "
    "sample reaches past the field of view the values come out too low, and detector structure stays in"
)
NO_DARKS = "no dark field: the detector's offset is taken as zero, so strongly absorbing parts come out too low"
REFERENCES_UNUSED = "flats and darks are not used: the projections are said to be line integrals already"

_FEWEST_PIXELS = 16
"""Fewer may well have the same value."""
_NONE = References(flat=None, dark=None, valid=None)


@dataclass(frozen=True, slots=True, eq=False)
class LineIntegrals:
    """A batch of projections ready for the solver, and what had to be done to make it so."""

    values: NDArray[np.float32]
    """(angle, row, column), finite everywhere; zero in unusable frames."""
    weights: NDArray[np.float32]
    """(angle,): how much each counts for the solver, 1 for a frame as bright as the flats."""
    repaired: int
    """Pixel values that were dead, not finite or outliers and came from their neighbours, over all usable frames."""
    clamped: int
    """Pixel values at the floor of the transmission, over all usable frames."""
    unusable: NDArray[np.bool_]
    """(angle,), True for frames to be given weight zero."""
    reasons: tuple[str, ...]
    """One for each frame: why it is unusable; empty for a usable one."""
    warnings: tuple[str, ...]
    """What a person should know of how the values came about; the same for every batch."""
    facts: tuple[FrameValues, ...]
    """One for each frame, to be judged together with those of the others."""
    ray_weights: NDArray[np.float32] | None
    """(angle, row, column): what each ray counts besides; None where all count one."""


def to_line_integrals(
    images: NDArray[Any],
    references: References | None,
    parameters: PreprocessParameters,
    measurement: Measurement,
    ray_weights: NDArray[np.float32] | None = None,
) -> LineIntegrals:
    """Line integrals of a batch of detector images, (angle, row, column) of any real dtype, by this chain:

        1. region      rows and columns of interest, of projections and references
        2. beam        dark subtracted, divided by flat minus dark: transmission
        3. air         each frame divided by its intensity in the air beside the sample
        4. repair      dead and masked pixels, values that are not finite, and outliers are interpolated (see
                       `not_measured` and `repair_image`)
        5. binning     means of bin x bin pixels
        6. phase       single-distance phase retrieval
        7. logarithm   transmission held at `minimum_transmission` or more, minus the natural logarithm
        8. stripes     the references' profile of stripes subtracted
        9. weights     the intensity of step 3

    "transmission" goes through all of them. "line_integral" skips 2, 3, 6, 7 and 9; flats and darks are not used.

    Without darks the offset is zero. Without flats the intensity I0 is one number a frame, taken from the outermost 5 %
    of its columns: per row the median over the left and over the right edge, the upper quartile of these over the rows,
    and the brighter edge of the two. That is right where the sample leaves air at one side at least, and does not
    depend on other frames; where it is not right the frame is off by a constant. Both cases come with a warning.

    Pixels whose `ray_weights`, (angle, row, column) as the images, are zero are interpolated too and speak for nothing;
    a binned pixel weighs the mean of its parts.

    Frames with too many bad pixels, without beam, or with one value everywhere, are marked unusable. Memory: up to
    about one and a half times the region of interest, beside it.

    Parameters
    ----------
    images
        (angle, row, column) of any real dtype: counts, or line integrals.
    references
        Flats and darks of the same detector region; None for none.
    parameters
        How each step is done.
    measurement
        What the images hold.
    ray_weights
        (angle, row, column), zero or positive, what each pixel counts; None for one.

    Returns
    -------
    LineIntegrals
        Line integrals with weights, what was repaired, and what there is to say of them.

    Raises
    ------
    InputError
        The images are not real numbers in three dimensions, or do not fit the references or the region.
    """
    references = references or _NONE
    counts = measurement == "transmission"
    images = cropped(checked(images, references if counts else _NONE), parameters)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite and is repaired as such
        values = images.astype(np.float32)
    bad = not_measured(images)
    if images.dtype.kind == "f" and images.dtype.itemsize > values.dtype.itemsize:
        bad |= ~np.isfinite(values)
    rays = None if ray_weights is None else cropped(ray_weights, parameters)
    masked = np.zeros(values.shape, np.bool_) if rays is None else rays == 0
    bad |= masked
    full = _full_scale(images, references.cropped(parameters) if counts else _NONE)
    with_flats = counts and references.flat is not None
    seen = [] if with_flats else levels(values, bad)
    constant = [_constant(frame, lost) for frame, lost in zip(values, bad, strict=True)]
    weights = np.ones(len(values), np.float32)
    if counts:
        intensities = _to_transmission(values, references.cropped(parameters), bad, parameters)
        weights = intensities if parameters.weights == "counts" and with_flats else weights
    if with_flats:
        seen = levels(values, bad, weights)
    reasons, repaired = _repair(values, bad, masked, parameters)
    values = binned(values, parameters.bin)
    clamped = np.zeros(len(values), np.int64)
    if counts:
        values = retrieve(values, parameters.phase, parameters.bin)
        clamped = _minus_log(values, parameters.minimum_transmission)
        dark = [_no_beam(at_floor / values[0].size, parameters) for at_floor in clamped.tolist()]
        reasons = [first or second for first, second in zip(reasons, dark, strict=True)]
    reasons = [first or second for first, second in zip(reasons, constant, strict=True)]
    _subtract(values, references.stripes)
    unusable = np.array([bool(reason) for reason in reasons], dtype=np.bool_)
    values[unusable] = 0
    return LineIntegrals(
        values,
        weights,
        repaired=int(repaired[~unusable].sum()),
        clamped=int(clamped[~unusable].sum()),
        unusable=unusable,
        reasons=tuple(reasons),
        warnings=_warnings(references, counts),
        facts=_facts(seen, full, clamped / values[0].size if len(values) else clamped, reasons),
        ray_weights=None if rays is None else binned(rays, parameters.bin),
    )


def _to_transmission(
    values: NDArray[np.float32], references: References, bad: NDArray[np.bool_], parameters: PreprocessParameters
) -> NDArray[np.float32]:
    """Steps 2 and 3, in place, `bad` brought up to date; returns the intensities (angle,)."""
    if references.valid is not None:
        bad |= ~references.valid
    values[bad] = 1  # out of the way of the arithmetic; repaired afterwards
    divide_by_beam(values, references, bad)
    bad |= np.isinf(values)
    values[bad] = 1
    return divide_by_air(values, bad, parameters.air_columns)


def _repair(
    values: NDArray[np.float32], bad: NDArray[np.bool_], masked: NDArray[np.bool_], parameters: PreprocessParameters
) -> tuple[list[str], NDArray[np.int64]]:
    """Step 4, in place: why each frame is unusable, and how many of its pixels were repaired, (angle,). Those that are
    `masked` because their rays do not count are no fault of the frame."""
    reasons, repaired = [], np.zeros(len(values), np.int64)
    for index, (frame, lost, apart) in enumerate(zip(values, bad, masked, strict=True)):
        share = np.count_nonzero(lost & ~apart) / max(1, int(np.count_nonzero(~apart)))
        reason = "no ray of it counts" if apart.all() else ""
        reason = reason or _too_many(share, "are dead, masked, saturated or not finite", parameters)
        if not reason:
            repair_image(frame, lost)
            stray = outliers(frame, parameters.outlier_sigmas)
            repair_image(frame, stray)
            repaired[index] = np.count_nonzero(lost) + np.count_nonzero(stray)
            reason = _too_many(np.count_nonzero(stray) / stray.size, "are outliers", parameters)
        reasons.append(reason)
    return reasons, repaired


def _constant(frame: NDArray[np.float32], bad: NDArray[np.bool_]) -> str:
    """Why a frame that has one value everywhere is none; a detector's noise alone makes more than one."""
    part = frame[::8, ::8][~bad[::8, ::8]]  # which tells nearly all frames at a small cost
    if part.size > 1 and part.min() != part.max():
        return ""
    good = frame[~bad]
    if good.size < _FEWEST_PIXELS or good[0] != good[-1] or np.any(good != good[0]):
        return ""
    return f"every pixel is {good[0]:g}: the frame was dropped, or never written"


def _full_scale(images: NDArray[Any], references: References) -> list[float]:
    valid = references.valid
    return [full_scale_share(frame, valid) for frame in images]


def _facts(seen: list[Levels], full: list[float], blocked: NDArray[Any], reasons: list[str]) -> tuple[FrameValues, ...]:
    parts = zip(seen, full, blocked.tolist(), reasons, strict=True)
    return tuple(FrameValues(one, share, float(dark), reason) for one, share, dark, reason in parts)


def _too_many(share: float, what: str, parameters: PreprocessParameters) -> str:
    most = parameters.maximum_bad_share
    return f"{share:.0%} of the pixels {what}, more than the {most:.0%} that are repaired" if share > most else ""


def _minus_log(values: NDArray[np.float32], floor: float) -> NDArray[np.int64]:
    """Step 7, in place; how many pixels of each frame are at the floor, (angle,)."""
    at_floor: NDArray[np.int64] = np.count_nonzero(values < floor, axis=(1, 2))
    np.maximum(values, np.float32(floor), out=values)
    np.log(values, out=values)
    np.negative(values, out=values)
    return at_floor


def _no_beam(share: float, parameters: PreprocessParameters) -> str:
    if share <= parameters.maximum_blocked_share:
        return ""
    floor = parameters.minimum_transmission
    return f"{share:.0%} of the pixels have a transmission below {floor:g}: no beam in this frame"


def _subtract(values: NDArray[np.float32], stripes: NDArray[np.float32] | None) -> None:
    if stripes is None:
        return
    if stripes.shape != values.shape[1:]:
        raise InputError(
            f"a profile of stripes of (rows, columns) {stripes.shape} does not fit projections of {values.shape[1:]}: "
            "find it with the same region of interest and binning"
        )
    values -= stripes


def _warnings(references: References, counts: bool) -> tuple[str, ...]:
    found = [] if references.stripes is None else [_stripes_of(references.stripes)]
    if not counts:
        return (*found, *([] if references.shape is None else [REFERENCES_UNUSED]))
    missing = ((references.flat, NO_FLATS), (references.dark, NO_DARKS))
    return (*found, *(text for image, text in missing if image is None))


def _stripes_of(profile: NDArray[np.float32]) -> str:
    strength = float(np.sqrt(np.mean(np.square(profile))))
    return f"stripes of {strength:.2g} (root mean square, in line integrals) are taken out of every projection"
