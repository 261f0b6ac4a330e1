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

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pfitre_service.config import PriorSettings
from pfitre_service.errors import InputError, SettingsError
from pfitre_service.model import FrameBatch, Measurement, Phase, Progress, ScanGeometry
from pfitre_service.preprocess import PreprocessParameters, References
from pfitre_service.recon.admm import StoppingRule
from pfitre_service.recon.calibration import Calibration, calibrate
from pfitre_service.recon.data_term import relative_residual
from pfitre_service.recon.parameters import AdmmParameters, CalibrationParameters
from pfitre_service.recon.pfitre import PfitreSolver
from pfitre_service.recon.rotation_axis import FEWEST_ANGLES
from pfitre_service.service.accumulation import Accumulation
from pfitre_service.service.priors import choose_priors
from pfitre_service.service.trust import Statement, believe

logger = logging.getLogger(__name__)

MINIMUM_ANGLES = 2
"""Fewer projections than this make no tomogram."""
_MOST_BELIEVING = 0.2
"""Of the compute time may go into `trust` while the solver is at work."""
_GROWTH = 1.5
"""Axis and shifts are looked for each time that so many times as many projections are in."""


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
    calibration: CalibrationParameters = field(default_factory=CalibrationParameters)


@dataclass(frozen=True, eq=False)
class Pictures:
    """The volumes of one revision, (z, y, x) float32; before the first iteration the volume is the preview, alone."""

    volume: NDArray[np.float32]
    physics: NDArray[np.float32] | None = None
    """The data alone."""
    trust: NDArray[np.float32] | None = None
    """|x - truth| to be expected of each voxel, in the volume's own unit."""
    inferred: NDArray[np.float32] | None = None
    """The part of the volume that no angle measured, in its own unit; the volume less this was measured."""
    preview: NDArray[np.float32] | None = None
    """Filtered back-projection of the same angles."""
    prior_gap: NDArray[np.float32] | None = None
    """|z - x|: where prior and data disagree, in the volume's own unit; zero without a prior."""
    statement: Statement | None = None
    """How far the volume may be believed."""


class Engine:
    """Accumulators, solver, prior and progress of one tomogram.

    When flats, darks or the calibration change after frames were added, the volume goes on with what it has while
    the frames from `wanted_again` on are given to `add_again`; when they have caught up, the solver goes on with them.
    """

    def __init__(
        self, geometry: ScanGeometry, parameters: EngineParameters, calibration: Calibration | None = None
    ) -> None:
        """calibration: what to begin with; by default the geometry's axis, for good, and no shifts."""
        self.parameters = parameters
        self.device = choose_device(parameters.device)
        self.phase: Phase = "preview"
        self.revision = 0
        self.withdrawn: frozenset[int] = frozenset()
        """Rows of the store that do not count."""
        self._seconds = 0.0
        self._remarks: dict[str, None] = {}
        self._geometry = geometry
        calibration = calibration or Calibration(geometry.axis)
        self._searches = parameters.calibration.drift or calibration.axis_origin != "given"
        self._in_use = self._accumulation(calibration, None)
        self._next: Accumulation | None = None
        watched = parameters.heldout_every > 0
        self._priors = choose_priors(parameters.prior, self.device, watched=watched)
        self._solver = PfitreSolver(
            self._in_use.solved,
            self._in_use.heldout,
            classical=self._priors.classical,
            learned=self._priors.learned,
            parameters=parameters.recon,
            watched=watched,
        )
        self._rule = self._new_rule()
        self._settled = False
        self._errors = (math.nan, math.nan)
        self._noise_floor = math.nan
        self._believing = 0.0

    @property
    def geometry(self) -> ScanGeometry:
        """Of the frames in use."""
        return self._in_use.geometry

    @property
    def calibration(self) -> Calibration:
        """Of the frames in use."""
        return self._in_use.calibration

    @property
    def stored(self) -> int:
        """Projections given to `add`, unusable and withdrawn ones included."""
        return self._in_use.stored

    @property
    def unusable(self) -> int:
        """Projections that were left out, and why is in `warnings`."""
        return self._in_use.unusable

    @property
    def warnings(self) -> dict[str, None]:
        """What a person should know, each once."""
        doubt = "" if self.phase in ("preview", "iterating") else self.calibration.doubt
        about_axis = {f"the rotation axis was not found and is taken as {self.calibration.axis:g}: {doubt}": None}
        return self._in_use.warnings | self._remarks | (about_axis if doubt else {})

    @property
    def used(self) -> int:
        """Projections in the solver's or the held-out accumulators."""
        return self._in_use.used

    def set_references(self, references: References | None) -> None:
        """Flats and darks for all frames; those that are in already are wanted again, and then calibrated anew."""
        self._begin(replace((self._next or self._in_use).calibration, angles=0), references)

    def calibrate(self, *, at_last: bool = False) -> None:
        """Looks for axis and shifts when it matters: when angles have grown by half since the last time, or, `at_last`,
        at all. Frames are wanted again when these have changed by more than the tolerance."""
        seen, before = self._in_use.sampled, self.calibration
        due = before.angles < seen if at_last else seen >= max(_GROWTH * before.angles, FEWEST_ANGLES)
        if not due or self._next is not None or not self._searches:
            return
        with self._timed():
            found = calibrate(*self._in_use.sample(), before, self.parameters.calibration)
            if found.differs(before, self.parameters.calibration.tolerance):
                logger.info("axis %.2f, %s; frames are added again", found.axis, found.axis_origin)
                self._begin(found, self._in_use.references)
            else:
                self._in_use.calibration = replace(found, axis=before.axis, shifts=before.shifts)

    @property
    def wanted_again(self) -> int | None:
        """Row of the first frame that `add_again` waits for; None while no frames are wanted again."""
        return None if self._next is None else self._next.stored

    def add(self, batch: FrameBatch) -> None:
        """Adds projections as they lie in the store: raw images, angles in degrees, row of the first in the array."""
        with self._timed():
            self._in_use.add(batch, self.withdrawn)
            self._unsettle()

    def add_again(self, batch: FrameBatch) -> None:
        """Adds frames from row `wanted_again` on, under the new calibration; the last one makes it the one in use."""
        if self._next is None:
            raise InputError("no frames are wanted again")
        with self._timed():
            self._next.add(batch, self.withdrawn)
            if self._next.stored >= self.stored:
                self._go_on_with(self._next)

    def withdraw(self, batch: FrameBatch) -> None:
        """Takes projections out again, given as they were to `add`; those that are not in yet will be left out."""
        with self._timed():
            for index, row in enumerate(range(batch.first, batch.first + len(batch.images))):
                if row not in self.withdrawn:
                    self._take_out(FrameBatch(batch.role, row, batch.images[[index]], batch.angles[[index]]))
            self._unsettle()

    def leave_out(self, rows: Iterable[int]) -> None:
        """Projections of these rows of the store, not added so far, will not count."""
        self.withdrawn |= frozenset(rows)

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
            self._remarks.update(dict.fromkeys(self._solver.remarks))
            if self.phase == "preview":
                self.phase = "iterating"
            progress = self._progress(change)
            self._settled = self._rule(change, progress.heldout_error if self._in_use.heldout.angles else math.nan)
            if self._settled:
                self._move_on()
        return progress if self.phase != "final" else self._as_final(progress)

    def preview(self) -> NDArray[np.float32]:
        """Filtered back-projection of all angles so far, (z, y, x) float32."""
        return self._in_use.preview.picture(self._in_use.solved).cpu().numpy()

    def pictures(self) -> Pictures:
        """The volumes as they are now. While the solver is at work, how far they may be believed is left out of some,
        with the preview, so that it takes a fifth of the time at most."""
        if self.revision <= 1:
            return Pictures(self.preview())
        solver = self._solver
        if self._believing > _MOST_BELIEVING * self._seconds and not self.settled:
            return Pictures(solver.x.cpu().numpy(), solver.physics.x.cpu().numpy())
        begin = time.perf_counter()
        believed, preview = believe(self._in_use, solver, self._errors[0], self._noise_floor), self.preview()
        self._believing += time.perf_counter() - begin
        numpy = {name: tensor.cpu().numpy() for name, tensor in believed.maps.items()}
        volume, physics = solver.x.cpu().numpy(), solver.physics.x.cpu().numpy()
        return Pictures(volume, physics, **numpy, preview=preview, statement=believed.statement)

    @property
    def prior_name(self) -> str:
        """The prior in use, by name."""
        return self._priors.names[0 if self._solver.learned is not None else -1]

    @property
    def weights_sha256(self) -> str:
        """Of the network in use; empty without one."""
        return self._priors.weights_sha256 if self._solver.learned is not None else ""

    def _accumulation(self, calibration: Calibration, references: References | None) -> Accumulation:
        parameters = self.parameters
        return Accumulation(
            self._geometry,
            calibration,
            references,
            measurement=parameters.measurement,
            preprocess=parameters.preprocess,
            heldout_every=0 if self.phase in ("refit", "final") else parameters.heldout_every,
            slices=parameters.calibration.slices if self._searches else 0,
            device=self.device,
        )

    def _begin(self, calibration: Calibration, references: References | None) -> None:
        """Adds up anew; at once where nothing is in yet."""
        self._next = self._accumulation(calibration, references)
        if not self.stored:
            self._go_on_with(self._next)

    def _take_out(self, frame: FrameBatch) -> None:
        for accumulation in (self._in_use, self._next):
            if accumulation is not None and frame.first < accumulation.stored:
                accumulation.remove(frame)
        self.leave_out([frame.first])

    def _go_on_with(self, accumulation: Accumulation) -> None:
        if self.phase == "refit":
            accumulation.give_back_heldout()
        self._in_use, self._next = accumulation, None
        self._solver.use(accumulation.solved, accumulation.heldout)
        self._unsettle()

    def _move_on(self) -> None:
        if self.phase == "converging" and self._in_use.heldout.angles:
            self.phase = "refit"
            self._solver.refit()
            self._in_use.heldout, self._in_use.heldout_every = self._solver.heldout, 0
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
        result = self._in_use.preview.picture(self._in_use.solved) if preview else self._solver.x
        if preview and self._in_use.heldout.angles:
            error = relative_residual(self._in_use.heldout, result)
            self._errors = (error, error)
        elif self._in_use.heldout.angles:
            self._noise_floor = self._in_use.noise_floor
            self._errors = (self._solver.errors.result, self._solver.errors.physics)
        return Progress(
            revision=self.revision,
            phase=self.phase,
            time=time.time(),
            angles_stored=self.stored,
            angles_used=self.used,
            iterations=self.revision - 1,
            residual=relative_residual(self._in_use.solved, result),
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


def given_axis(said: float | None, parameters: CalibrationParameters) -> float | None:
    """Column of the rotation axis by the settings, or else as the run or the caller `said`; None where neither did."""
    return said if isinstance(parameters.rotation_axis, str) else float(parameters.rotation_axis)


def first_calibration(geometry: ScanGeometry, given: float | None, parameters: CalibrationParameters) -> Calibration:
    """What a tomogram begins with: the geometry's axis, to be found unless it was given or is to be the middle."""
    searched = given is None and parameters.rotation_axis == "auto"
    return Calibration(geometry.axis, "middle" if searched else "given")


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
