"""Stored data through the same engine as a live scan."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pfitre_service.config import Settings
from pfitre_service.engine.assessment import Statement
from pfitre_service.engine.calibration_search import first_calibration, given_axis, of_detector
from pfitre_service.engine.engine import Engine
from pfitre_service.engine.metadata import engine_metadata
from pfitre_service.engine.parameters import EngineParameters
from pfitre_service.errors import InputError
from pfitre_service.model import Finding, FrameBatch, Measurement, Progress, ScanGeometry
from pfitre_service.preprocess import PreprocessParameters, References, StripeSearch, region_geometry
from pfitre_service.preprocess.measurement import decided
from pfitre_service.recon.calibration.calibration import Calibration

logger = logging.getLogger(__name__)

_BATCH_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What `reconstruct` returns."""

    volume: NDArray[np.float32]
    """(z, y, x): the result."""
    physics: NDArray[np.float32]
    """(z, y, x): the data alone, without a prior."""
    expected_error: NDArray[np.float32]
    """(z, y, x): ``|x - truth|`` to be expected of each voxel, as the digital twin has calibrated it."""
    inferred: NDArray[np.float32]
    """(z, y, x): the part of the volume that no angle measured."""
    prior_gap: NDArray[np.float32]
    """(z, y, x): ``|z - x|``, where prior and data disagree."""
    statement: Statement
    """How far the volume may be believed, in numbers and in a sentence."""
    preview: NDArray[np.float32]
    """(z, y, x): filtered back-projection."""
    history: tuple[Progress, ...]
    """One row a step; the held-out error in the last one is the volume's before the held-out angles were given back."""
    geometry: ScanGeometry
    """Of the volume: after region of interest and bins."""
    calibration: Calibration
    """Rotation axis and shifts that were used, in columns of the projections as given, and where they come from."""
    prior: str
    """Name of the prior in use at the end."""
    warnings: tuple[str, ...]
    """What a person should know, each once."""
    findings: tuple[Finding, ...]
    """What speaks against the scan; each stands in `warnings` too."""
    metadata: Mapping[str, Any]
    """How it came about, by the names that the catalogue has for it: weights, device, calibration, every parameter."""

    @property
    def heldout_error(self) -> float:
        """||A x - y|| / ||y|| on angles that the solver had not seen; NaN when none were held out."""
        return self.history[-1].heldout_error

    @property
    def seconds(self) -> float:
        """Compute time."""
        return self.history[-1].seconds


def reconstruct(
    projections: ArrayLike,
    angles: ArrayLike,
    axis: float | None = None,
    prior: str = "auto",
    iterations: int | None = None,
    device: str | None = None,
    *,
    flats: ArrayLike | None = None,
    darks: ArrayLike | None = None,
    ray_weights: ArrayLike | None = None,
    measurement: Measurement | None = None,
    settings: Settings | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Reconstruction:
    """Reconstructs a stored scan.

    Parameters
    ----------
    projections
        (angle, row, column), real numbers of any dtype: detector counts where `flats` are given, else what
        `measurement` says; without either, what the values tell (air is the brightest in counts, and near zero in line
        integrals).
    angles
        (angle,) degrees, in any order and any ranges.
    axis
        Column of the rotation axis in the projections as given; by default it is found.
    prior
        "none" (physics alone), "tv" (total variation), the name of installed weights, or "auto" (the best installed).
    iterations
        Most steps after which the solver stops, converged or not.
    device
        A torch device, such as "cuda:0"; by default that of the settings.
    flats, darks
        (n, row, column) detector counts without sample, and without beam.
    ray_weights
        (angle, row, column), or (row, column) for all projections alike: what each ray counts, zero or positive; one by
        default. Zero for what must not count: a masked part of the detector, a saturated ray. With it the solver
        projects in place of convolving, and its time grows with the number of angles.
    measurement
        "transmission" for counts, "line_integral" for what a logarithm has been taken of.
    settings
        Everything else.
    on_progress
        Called after every step.

    Returns
    -------
    Reconstruction
        Volumes (z, y, x) float32 and what is said of them.

    Raises
    ------
    InputError
        Data do not fit each other, are too few, do not tell counts from line integrals, or no right volume can come of
        them (see `findings`).
    SettingsError
        There is no such prior or device.
    """
    chosen = settings if settings is not None else Settings()
    images, degrees = _checked(projections, angles)
    kind = measurement or decided(images, flats=_holds(flats), darks=_holds(darks))
    said = measurement is not None or _holds(flats)
    rays = _checked_weights(ray_weights, images.shape)
    given = given_axis(axis, chosen.calibration)
    frames = ScanGeometry.from_detector(rows=images.shape[1], columns=images.shape[2], axis=given)
    geometry = region_geometry(frames, chosen.preprocess)
    calibration = first_calibration(geometry, given, chosen.calibration)
    parameters = EngineParameters.from_settings(
        chosen,
        kind,
        said=said,
        ray_weights=rays is not None,
        prior=prior,
        iterations=iterations,
        device=device,
    )
    engine = Engine(geometry, parameters, calibration)
    references = References.from_frames(_stack(flats), _stack(darks), chosen.preprocess)
    batches = _batches(images, degrees, rays)
    engine.set_references(_with_stripes(references, batches, chosen.preprocess, kind))
    for batch in batches:
        engine.add(batch)
    engine.calibrate(at_last=True)
    if engine.projections.reprocess_from is not None:
        for batch in batches:
            engine.reprocess(batch)
    engine.close()
    history: list[Progress] = []
    while engine.phase != "final":
        history.append(engine.step())
        on_progress(history[-1])
    volumes = engine.final_volumes()
    return Reconstruction(
        volume=volumes.volume,
        physics=volumes.physics,
        expected_error=volumes.expected_error,
        inferred=volumes.inferred,
        prior_gap=volumes.prior_gap,
        statement=volumes.statement,
        preview=volumes.preview,
        history=tuple(history),
        geometry=engine.projections.active.geometry,
        calibration=of_detector(engine.projections.active.calibration, chosen.preprocess),
        prior=engine.in_view.prior_name,
        warnings=tuple(engine.warnings),
        findings=engine.findings,
        metadata=engine_metadata(engine),
    )


def _with_stripes(
    references: References, batches: list[FrameBatch], parameters: PreprocessParameters, measurement: Measurement
) -> References:
    search = StripeSearch(references, parameters, measurement)
    for batch in batches:
        search.add(batch)
    return search.found() or references


def _checked(projections: ArrayLike, angles: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    images = np.asarray(projections)
    degrees = np.asarray(angles, dtype=np.float64)
    if images.ndim != 3 or images.dtype.kind not in "biuf":
        raise InputError(
            f"projections must be real numbers (angle, row, column); got {images.dtype} of shape {images.shape}"
        )
    if degrees.shape != images.shape[:1]:
        raise InputError(f"angles must be one per projection, ({len(images)},) degrees; got shape {degrees.shape}")
    if not np.isfinite(degrees).all():
        raise InputError("angles must be finite degrees; some are NaN or infinite")
    return images, degrees


def _checked_weights(weights: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """(angle, row, column) of projections of that shape."""
    if weights is None:
        return None
    given = np.asarray(weights)
    if given.dtype.kind not in "biuf" or given.shape not in (shape, shape[1:]):
        raise InputError(
            f"ray_weights must be real numbers (angle, row, column) = {shape}, or (row, column) for all projections; "
            f"got {given.dtype} of shape {given.shape}"
        )
    rays = np.broadcast_to(given.astype(np.float32), shape)
    if not np.isfinite(given).all() or (given < 0).any():
        raise InputError("ray_weights must be finite, and zero or positive")
    return rays


def _holds(images: ArrayLike | None) -> bool:
    return images is not None and len(np.asarray(images)) > 0


def _stack(images: ArrayLike | None) -> NDArray[Any] | None:
    return None if images is None else np.asarray(images)


def _batches(images: NDArray[Any], degrees: NDArray[np.float64], rays: NDArray[np.float32] | None) -> list[FrameBatch]:
    length = max(1, _BATCH_BYTES // max(1, images[0].size * 4)) if len(images) else 1
    return [
        FrameBatch(
            "projection",
            part.start,
            images[part],
            degrees[part],
            ray_weights=None if rays is None else rays[part],
        )
        for part in (slice(first, first + length) for first in range(0, len(images), length))
    ]
