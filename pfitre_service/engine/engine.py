"""One tomogram in the making: counts in, a volume that grows better with every step out.

The same engine serves the worker of a live scan and `reconstruct()` on stored data. It joins the parts:
preprocess makes line integrals, recon accumulates and iterates, prior fills in what was not measured.

    preview     first picture, by filtered back-projection
    iterating   ADMM steps while angles may still come
    converging  no more angles will come: a fresh solver begins on all of them, until all of it rests
    refit       the held-out angles, whose error has been measured, are given to the solver too; at most as many steps
                as `converging` took, because nothing is left that could tell when they are too many
    final       done

The last phases come from a cold start, so that the final volume depends on the projections alone, and is that of
`reconstruct()`. Meanwhile the volume from before is shown, until the new one predicts the held-out angles as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pfitre_service.engine.accumulator import Accumulators
from pfitre_service.engine.calibration_search import of_detector
from pfitre_service.engine.examination import FEWEST_FRAMES, Examination, refuse
from pfitre_service.engine.parameters import EngineParameters, choose_device
from pfitre_service.engine.projections import ProjectionSet
from pfitre_service.engine.solver import Metrics, PublishedSnapshot, TomogramSolver
from pfitre_service.engine.volumes import AssessedVolumes, SolvedVolumes, Volumes
from pfitre_service.errors import InputError
from pfitre_service.model import Finding, FrameBatch, Phase, Progress, ScanGeometry
from pfitre_service.preprocess import References
from pfitre_service.preprocess.value_plausibility import CONTRADICTED, UNKNOWN
from pfitre_service.recon.calibration.calibration import Calibration
from pfitre_service.recon.operators.data_term import relative_residual

MINIMUM_ANGLES = 2
"""Fewer projections than this make no tomogram."""
_MOST_BELIEVING = 0.1
"""Of the compute time may go into `expected_error` while the solver is at work."""


class Engine:
    """Accumulators, calibration, solver and progress of one tomogram.

    When flats, darks or the calibration change after frames were added, the volume goes on with what it has while
    the frames from `reprocess_from` on are given to `reprocess`; once they have caught up, the solver takes these.

    Parameters
    ----------
    geometry
        Of the line integrals, as `region_geometry` gives it.
    parameters
        All that it is told besides the data.
    calibration
        What is known without looking at projections; None for the geometry's axis, for good.
    resumed
        What an engine of the same tomogram had come to.
    """

    def __init__(
        self,
        geometry: ScanGeometry,
        parameters: EngineParameters,
        calibration: Calibration | None = None,
        *,
        resumed: Calibration | None = None,
    ) -> None:
        self.parameters = parameters
        self.device = choose_device(parameters.device)
        self.phase: Phase = "preview"
        self.revision = 0
        self._seconds = self._believing = 0.0
        self._closed = False
        first = calibration or Calibration(geometry.axis)
        self.projections = ProjectionSet(geometry, parameters, self.device, first=first, resumed=resumed)
        self._examination = Examination()
        self._solving = self._cold_start()
        self._shown: PublishedSnapshot | None = None
        """What is in view while the solver of the last phases comes up to it."""

    @property
    def warnings(self) -> dict[str, None]:
        """What a person should know, each once."""
        doubt = "" if self.phase in ("preview", "iterating") else self._active.calibration.doubt
        axis = of_detector(self._active.calibration, self.parameters.preprocess).axis
        about_axis = {f"the rotation axis was not found and is taken as {axis:g}: {doubt}": None}
        damaged = {f"projection {row} was left out: {reason}": None for row, reason in self._active.damaged.items()}
        found = damaged | {str(finding): None for finding in self.findings}
        return found | self._active.warnings | self.in_view.remarks | (about_axis if doubt else {})

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What speaks against the scan, the fatal first; during a scan looked at again as it grows."""
        return self._examination.findings(self._active, at_last=self._closed)

    @property
    def measurement_from(self) -> str:
        """Who says what the images hold: said (by a person or a document), flats, values, or nobody."""
        if self.parameters.measurement_said:
            return "said"
        if self._active.references is not None and self._active.references.flat is not None:
            return "flats"
        doubtful = any(finding.name in (CONTRADICTED, UNKNOWN) for finding in self.findings)
        return "nobody" if doubtful or (not self.findings and self._active.used < FEWEST_FRAMES) else "values"

    def set_references(self, references: References | None) -> None:
        """Flats and darks for all frames; those that are in already are wanted again, and then calibrated anew.

        Parameters
        ----------
        references
            None for none.
        """
        with self._changing():
            self.projections.set_references(references)

    def calibrate(self, *, at_last: bool = False) -> None:
        """Looks for axis and shifts when it matters: when angles have grown by half since the last time. Frames are
        wanted again when these have changed.

        Parameters
        ----------
        at_last
            Whether it looks in any case, once for all frames.
        """
        with self._changing():
            self.projections.calibrate(at_last=at_last)

    def add(self, batch: FrameBatch) -> None:
        """Adds projections.

        Parameters
        ----------
        batch
            As they lie in the store: raw images, angles in degrees, row of the first in the array.
        """
        with self._changing():
            self.projections.add(batch)
            self._unsettle()

    def reprocess(self, batch: FrameBatch) -> None:
        """Adds frames again, under the new calibration; the last one makes it the one in use.

        Parameters
        ----------
        batch
            As they lie in the store, from row `reprocess_from` on.

        Raises
        ------
        InputError
            No frames are wanted again.
        """
        with self._changing():
            self.projections.reprocess(batch)

    def withdraw(self, batch: FrameBatch) -> None:
        """Takes projections out again; those that are not in yet will be left out.

        Parameters
        ----------
        batch
            As it was given to `add`.
        """
        with self._changing():
            self.projections.withdraw(batch)
            self._unsettle()

    @property
    def settled(self) -> bool:
        """Whether another step would change nothing worth while, as long as no angle arrives."""
        return self._solving.settled or self.phase == "final"

    @property
    def has_work(self) -> bool:
        """Whether there are projections enough for a step, and it would change something."""
        return self._active.used >= MINIMUM_ANGLES and not self.settled

    def close(self) -> None:
        """No more angles will come.

        Raises
        ------
        InputError
            They are too few for a tomogram, or a finding is fatal.
        """
        refuse(self._examination.findings(self._active, at_last=True))
        if self._active.used < MINIMUM_ANGLES:
            raise InputError(
                f"a tomogram needs at least {MINIMUM_ANGLES} usable projections; got {self._active.used} usable "
                f"of {self._active.stored} stored"
            )
        if not self._closed:
            self._closed = True
            self._unsettle()

    def step(self) -> Progress:
        """One step: the preview first, then one iteration each call; moves on to the next phase when it is time."""
        with self._timed():
            self.revision += 1
            if self.revision == 1:
                return self._progress(self._of_preview(), math.nan)
            change = self._solving.step()
            if self.phase == "preview":
                self.phase = "iterating"
            metrics = self._solving.metrics
            if self._shown is not None and self._shown.is_no_better_than(metrics):
                self._shown = None
            progress = self._progress(metrics if self._shown is None else self._shown.metrics, change)
            if self._solving.settled and self.projections.reprocess_from is None:
                self._advance_phase()
        return progress if self.phase != "final" else replace(progress, phase="final", seconds=self._seconds)

    def preview(self) -> NDArray[np.float32]:
        """Filtered back-projection of all angles so far, (z, y, x) float32."""
        return self._active.preview.volume(self._active.solved).cpu().numpy()

    @property
    def shown_revision(self) -> int:
        """Of the volume that `volumes` gives."""
        return self.revision if self._shown is None else self._shown.revision

    def volumes(self) -> Volumes:
        """The volumes to be shown now. While the solver is at work, how far they may be believed is left out of some,
        with the preview, so that it takes a tenth of the time at most."""
        if self.revision <= 1:
            return Volumes(self.preview())
        return self._solved_volumes() if self._shown is None else self._shown.volumes

    def _solved_volumes(self) -> SolvedVolumes:
        if self._believing > _MOST_BELIEVING * self._seconds and not self.settled:
            return self._solving.volumes()
        begin = time.perf_counter()
        volumes = self._solving.assessed_volumes()
        self._believing += time.perf_counter() - begin
        return volumes

    def final_volumes(self) -> AssessedVolumes:
        """The volumes of the engine that is `final`, with all maps."""
        return self._solving.assessed_volumes()

    @property
    def in_view(self) -> TomogramSolver | PublishedSnapshot:
        """What made the volume that is shown: its prior and remarks."""
        return self._shown or self._solving

    @property
    def _active(self) -> Accumulators:
        return self.projections.active

    def _cold_start(self) -> TomogramSolver:
        given = self.parameters
        return TomogramSolver(
            self._active, given.recon, given.prior, watched=given.heldout_every > 0, device=self.device
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Time in which other frames may come into use."""
        with self._timed():
            before = self._active
            yield
            if self._active is not before:
                if self._closed:
                    self._restart_for_final()
                else:
                    self._solving.use(self._active)

    def _unsettle(self) -> None:
        """The frames in use have changed, or there will be no more of them."""
        if self._closed and self.projections.reprocess_from is None and self.phase == "refit":
            self.projections.restore_held_out()
        if self._closed and self.projections.reprocess_from is None:
            self._restart_for_final()
        else:
            self._solving.wake()

    def _restart_for_final(self) -> None:
        """From a cold start on all frames; what has been come to so far stays in view."""
        if self.phase == "final":
            return
        if self._shown is not None:
            self._shown.measure(self._active)
        elif self.revision > 1:
            self._shown = PublishedSnapshot(self.revision, self._solved_volumes(), self._solving, self._active)
        self.phase, self._solving = "converging", self._cold_start()

    def _advance_phase(self) -> None:
        if self.phase == "converging" and self._active.heldout.angles:
            self.phase = "refit"
            self._solving.refit()
        elif self.phase in ("converging", "refit"):
            self.phase = "final"
        if self._closed:
            self._shown = None

    def _of_preview(self) -> Metrics:
        picture, heldout = self._active.preview.volume(self._active.solved), self._active.heldout
        error = relative_residual(heldout, picture) if heldout.angles else math.nan
        return Metrics(relative_residual(self._active.solved, picture), error, error, math.nan)

    def _progress(self, metrics: Metrics, change: float) -> Progress:
        return Progress(
            revision=self.revision,
            phase=self.phase,
            time=time.time(),
            angles_stored=self._active.stored,
            angles_used=self._active.used,
            iterations=self.revision - 1,
            residual=metrics.residual,
            heldout_error=metrics.heldout_error,
            heldout_error_physics=metrics.heldout_error_physics,
            change=change,
            prior_gap=metrics.prior_gap,
            seconds=self._seconds,
        )

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - begin
