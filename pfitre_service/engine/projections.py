"""The projections of one tomogram, added up under what is known of them now.

When flats, darks or the calibration change after frames were added, these are added up anew beside the old ones, which
stay in use until the new ones have caught up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

import torch

from pfitre_service.engine.accumulator import Accumulators
from pfitre_service.engine.calibration_search import CalibrationSearch
from pfitre_service.engine.parameters import EngineParameters
from pfitre_service.errors import InputError
from pfitre_service.model import FrameBatch, ScanGeometry
from pfitre_service.preprocess import References
from pfitre_service.recon.calibration.calibration import Calibration

logger = logging.getLogger(__name__)


class ProjectionSet:
    """Batches go in as they lie in the store: raw images, angles in degrees, row of the first in the array.

    Parameters
    ----------
    geometry
        Of the line integrals.
    parameters
        All that an engine is told besides the data.
    device
        Where the accumulators lie.
    first
        What is known without looking at projections.
    resumed
        What to begin with instead, if anything.
    """

    def __init__(
        self,
        geometry: ScanGeometry,
        parameters: EngineParameters,
        device: torch.device,
        *,
        first: Calibration,
        resumed: Calibration | None,
    ) -> None:
        self.withdrawn: frozenset[int] = frozenset()
        """Rows of the store that do not count."""
        self._geometry, self._parameters, self._device = geometry, parameters, device
        self._search = CalibrationSearch(first, parameters.calibration)
        self.active = self._accumulation(resumed or first, None)
        self._next: Accumulators | None = None

    @property
    def reprocess_from(self) -> int | None:
        """Row of the first frame that `reprocess` waits for; None while no frames are wanted again."""
        return None if self._next is None else self._next.stored

    def add(self, batch: FrameBatch) -> None:
        """Adds frames that are new.

        Parameters
        ----------
        batch
            As they lie in the store.
        """
        self.active.add(batch, self.withdrawn)
        self._search.resume()

    def reprocess(self, batch: FrameBatch) -> None:
        """Adds frames again; the last one puts those that were added again to use.

        Parameters
        ----------
        batch
            As they lie in the store, from row `reprocess_from` on.

        Raises
        ------
        InputError
            No frames are wanted again.
        """
        if self._next is None:
            raise InputError("no frames are wanted again")
        self._next.add(batch, self.withdrawn)
        if self._next.stored >= self.active.stored:
            self.active, self._next = self._next, None

    def withdraw(self, batch: FrameBatch) -> None:
        """Takes frames out; those that are not in yet will be left out.

        Parameters
        ----------
        batch
            As it was given to `add`.
        """
        for index, row in enumerate(range(batch.first, batch.first + len(batch.images))):
            if row not in self.withdrawn:
                damaged = {row: batch.damaged[row]} if row in batch.damaged else {}
                rays = None if batch.ray_weights is None else batch.ray_weights[[index]]
                one = FrameBatch(batch.role, row, batch.images[[index]], batch.angles[[index]], damaged, rays)
                self._take_out(one)
        self._search.resume()

    def exclude(self, rows: Iterable[int]) -> None:
        """Frames that were not added so far, and will not count.

        Parameters
        ----------
        rows
            Of the store.
        """
        self.withdrawn |= frozenset(rows)

    def set_references(self, references: References | None) -> None:
        """Flats and darks for all frames; those that are in already are wanted again, and then calibrated anew.

        Parameters
        ----------
        references
            None for none.
        """
        self._search.resume()
        self._begin(replace((self._next or self.active).calibration, angles=0), references)

    def calibrate(self, *, at_last: bool) -> None:
        """Looks for axis and shifts if it is time. The frames are wanted again when they have changed.

        Parameters
        ----------
        at_last
            Whether it looks in any case, once for all frames.
        """
        if self._next is not None:
            return
        found = self._search.conclude(self.active) if at_last else self._search.update(self.active)
        if found is not None:
            logger.info("axis %.2f, %s; frames are added again", found.axis, found.axis_origin)
            self._begin(found, self.active.references)

    def restore_held_out(self) -> None:
        """Frames that were held out are among the others by now: to tell them apart, all are wanted again."""
        self._begin(self.active.calibration, self.active.references)

    def _begin(self, calibration: Calibration, references: References | None) -> None:
        begun = self._accumulation(calibration, references)
        if self.active.stored:
            self._next = begun
        else:
            self.active = begun

    def _take_out(self, frame: FrameBatch) -> None:
        """One that is in and cannot be read any more cannot be subtracted: all others are wanted again."""
        self.exclude([frame.first])
        lost = False
        for accumulation in (self.active, self._next):
            if accumulation is None or frame.first >= accumulation.stored:
                continue
            if frame.first in accumulation.damaged:
                accumulation.forget(frame.first)
            elif frame.damaged:
                lost = True
            else:
                accumulation.remove(frame)
        if lost:
            latest = self._next or self.active
            self._begin(latest.calibration, latest.references)

    def _accumulation(self, calibration: Calibration, references: References | None) -> Accumulators:
        return Accumulators(
            self._geometry,
            calibration,
            references,
            measurement=self._parameters.measurement,
            measurement_said=self._parameters.measurement_said,
            preprocess=self._parameters.preprocess,
            heldout_every=self._parameters.heldout_every,
            ray_weights=self._parameters.ray_weights,
            slices=self._parameters.calibration.slices,
            device=self._device,
        )
