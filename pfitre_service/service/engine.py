"""One tomogram in the making: counts in, a volume that grows better with every step out.

The same engine serves the worker of a live scan and `reconstruct()` on stored data. It joins the parts:
preprocess makes line integrals, recon accumulates and iterates, prior fills in what was not measured.

    preview     first picture, by filtered back-projection
    iterating   ADMM steps while angles may still come
    converging  no more angles will come: steps until the `StoppingRule` holds
    refit       the held-out angles, whose error has been measured, are given to the solver too; at most as many steps
                as `converging` took, because nothing is left that could tell when they are too many
    final       done
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pfitre_service.config import PriorSettings
from pfitre_service.errors import InputError, SettingsError
from pfitre_service.model import FrameBatch, Measurement, Phase, Progress, ScanGeometry
from pfitre_service.preprocess import PreprocessParameters, References, to_line_integrals
from pfitre_service.recon.admm import StoppingRule
from pfitre_service.recon.data_term import relative_residual
from pfitre_service.recon.filtered_backprojection import FilteredBackprojection
from pfitre_service.recon.normal_equations import NormalEquations
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.recon.pfitre import PfitreSolver
from pfitre_service.service.priors import choose_priors

MINIMUM_ANGLES = 2
"""Fewer projections than this make no tomogram."""


@dataclass(frozen=True)
class EngineParameters:
    """What the engine is told besides the data."""

    measurement: Measurement = "line_integral"
    heldout_every: int = 8
    """Every so-manieth projection is held out; 0 holds none out."""
    device: str = "auto"
    preprocess: PreprocessParameters = field(default_factory=PreprocessParameters)
    recon: AdmmParameters = field(default_factory=AdmmParameters)
    prior: PriorSettings = field(default_factory=PriorSettings)


@dataclass(frozen=True, eq=False)
class Pictures:
    """The volumes of one revision, (z, y, x) float32."""

    volume: NDArray[np.float32]
    physics: NDArray[np.float32] | None
    """None for the preview, which comes before the first iteration."""
    trust: NDArray[np.float32] | None
    """|z - x|: where prior and data disagree, in the volume's own unit; zero without a prior. None for the preview."""


class Engine:
    """Accumulators, solver, prior and progress of one tomogram."""

    def __init__(self, geometry: ScanGeometry, parameters: EngineParameters) -> None:
        self.geometry = geometry
        self.parameters = parameters
        self.device = choose_device(parameters.device)
        self.references: References | None = None
        self.warnings: dict[str, None] = {}
        """What a person should know, in order of appearance, each once."""
        self.phase: Phase = "preview"
        self.revision = 0
        self.stored = 0
        """Projections given to `add`, unusable ones included."""
        self.unusable = 0
        self._seconds = 0.0
        self._solved = NormalEquations(geometry, device=self.device)
        self._heldout = NormalEquations(geometry, device=self.device)
        self._preview = FilteredBackprojection(geometry, device=self.device)
        watched = parameters.heldout_every > 0
        self._priors = choose_priors(parameters.prior, self.device, watched=watched)
        self._solver = PfitreSolver(
            self._solved,
            self._heldout,
            classical=self._priors.classical,
            learned=self._priors.learned,
            parameters=parameters.recon,
            watched=watched,
        )
        self._rule = self._new_rule()
        self._settled = False
        self._errors = (math.nan, math.nan)

    def set_references(self, references: References | None) -> None:
        """Flats and darks for the frames that will be added; `forget_frames` first if some are in already."""
        if self.stored:
            raise InputError("flats or darks changed after frames were added: forget_frames() and add them again")
        self.references = references

    def forget_frames(self) -> None:
        """Empties the accumulators and keeps the volume: the frames are to be added again, corrected otherwise."""
        fresh = Engine(self.geometry, self.parameters)
        self._solved, self._heldout, self._preview = fresh._solved, fresh._heldout, fresh._preview
        self._solver.use(self._solved, self._heldout)
        self.stored = self.unusable = 0
        self.warnings.clear()

    def add(self, batch: FrameBatch) -> None:
        """Adds projections as they lie in the store: raw images, angles in degrees, row of the first in the array."""
        with self._timed():
            corrected = to_line_integrals(
                batch.images, self.references, self.parameters.preprocess, self.parameters.measurement
            )
            self._take_warnings(batch, corrected.reasons, corrected.warnings)
            usable = ~corrected.unusable
            held = self._is_heldout(batch) & usable
            for chosen, data in ((usable & ~held, self._solved), (held, self._heldout)):
                if chosen.any():
                    values = torch.from_numpy(corrected.values[chosen])
                    angles = torch.from_numpy(batch.angles[chosen])
                    data.add(values, angles, weights=torch.from_numpy(corrected.weights[chosen]))
                    self._preview.add(values, angles)
            self.stored += len(batch.images)
            self.unusable += int(corrected.unusable.sum())
            self._unsettle()

    @property
    def used(self) -> int:
        """Projections in the solver's or the held-out accumulators."""
        return self._solved.angles + self._heldout.angles

    @property
    def settled(self) -> bool:
        """Whether another step would change nothing worth while, as long as no angle arrives."""
        return self._settled or self.phase == "final"

    def close(self) -> None:
        """No more angles will come. Raises InputError when there are too few for a tomogram."""
        if self.used < MINIMUM_ANGLES:
            raise InputError(
                f"a tomogram needs at least {MINIMUM_ANGLES} usable projections; got {self.used} usable "
                f"of {self.stored} stored"
            )
        if self.phase != "final":
            self.phase = "converging"
            self._unsettle()

    def step(self) -> Progress:
        """One step: the preview first, then one iteration each call; moves on to the next phase when it is time."""
        with self._timed():
            self.revision += 1
            if self.revision == 1:
                return self._progress(change=math.nan)
            change = self._solver.step()
            self.warnings.update(dict.fromkeys(self._solver.remarks))
            if self.phase == "preview":
                self.phase = "iterating"
            progress = self._progress(change)
            self._settled = self._rule(change, progress.heldout_error if self._heldout.angles else math.nan)
            if self._settled:
                self._move_on()
        return progress if self.phase != "final" else self._as_final(progress)

    def preview(self) -> NDArray[np.float32]:
        """Filtered back-projection of all angles so far, (z, y, x) float32."""
        return self._preview.picture(self._solved).cpu().numpy()

    def pictures(self) -> Pictures:
        """The volumes as they are now."""
        if self.revision <= 1:
            return Pictures(self.preview(), None, None)
        solver = self._solver
        gap = (solver.z - solver.x).abs()
        return Pictures(solver.x.cpu().numpy(), solver.physics.x.cpu().numpy(), gap.cpu().numpy())

    @property
    def prior_name(self) -> str:
        """The prior in use, by name."""
        return self._priors.names[0 if self._solver.learned is not None else -1]

    @property
    def weights_sha256(self) -> str:
        """Of the network in use; empty without one."""
        return self._priors.weights_sha256 if self._solver.learned is not None else ""

    def _is_heldout(self, batch: FrameBatch) -> NDArray[np.bool_]:
        every = self.parameters.heldout_every
        rows = batch.first + np.arange(len(batch.images))
        return (rows % every == every // 2) if every else np.zeros(len(rows), dtype=bool)

    def _take_warnings(self, batch: FrameBatch, reasons: tuple[str, ...], warnings: tuple[str, ...]) -> None:
        self.warnings.update(dict.fromkeys(warnings))
        for row, reason in enumerate(reasons, start=batch.first):
            if reason:
                self.warnings[f"projection {row} was left out: {reason}"] = None

    def _move_on(self) -> None:
        if self.phase == "converging" and self._heldout.angles:
            self.phase = "refit"
            self._solver.refit()
            self._heldout = self._solver.heldout
            self._settled = False
            self._rule = StoppingRule(self.parameters.recon.tolerance, self._rule.steps)
        elif self.phase in ("converging", "refit"):
            self.phase = "final"

    def _unsettle(self) -> None:
        self._settled = False
        self._solver.wake()
        self._rule = self._new_rule()

    def _new_rule(self) -> StoppingRule:
        return StoppingRule(self.parameters.recon.tolerance, self.parameters.recon.max_iterations)

    def _progress(self, change: float) -> Progress:
        preview = self.revision <= 1
        result = self._preview.picture(self._solved) if preview else self._solver.x
        if preview and self._heldout.angles:
            error = relative_residual(self._heldout, result)
            self._errors = (error, error)
        elif self._heldout.angles:
            self._errors = (self._solver.errors.result, self._solver.errors.physics)
        return Progress(
            revision=self.revision,
            phase=self.phase,
            time=time.time(),
            angles_stored=self.stored,
            angles_used=self.used,
            iterations=self.revision - 1,
            residual=relative_residual(self._solved, result),
            heldout_error=self._errors[0],
            heldout_error_physics=self._errors[1],
            change=change,
            prior_gap=math.nan if preview else self._solver.prior_gap,
            seconds=self._seconds,
        )

    def _as_final(self, progress: Progress) -> Progress:
        return replace(progress, phase="final", seconds=self._seconds)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - begin


def use_threads(count: int) -> None:
    """Sets up this process's CPU for the solver: `count` threads, 0 for all cores but one, so that the rest of the
    service has room. Threads of a solver that must wait for a busy core cost far more than they bring."""
    torch.set_num_threads(count or max(1, (os.cpu_count() or 1) - 1))
    torch.set_flush_denormal(True)  # a CPU takes a hundred times longer over numbers next to zero


def choose_device(name: str) -> torch.device:
    """The torch device of that name; `auto` takes a GPU where there is one. Raises SettingsError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device {name!r} cannot be used here: {error}; try cpu or auto") from error
    return device
