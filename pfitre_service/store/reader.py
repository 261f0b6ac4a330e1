"""Reading one tomogram back: for the worker, for a restart, for people."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.errors import StoreMissingError
from pfitre_service.model import FrameBatch, Measurement, Progress, Role, ScanGeometry, TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.frame_array import FrameArray, open_frames
from pfitre_service.store.frame_rows import FrameRows, read_identities
from pfitre_service.store.layout import AcquisitionState, FrameId, ResultName
from pfitre_service.store.result_array import ANSWER_BYTES, ResultArray
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import TiledHttp

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How far the frames of a tomogram are, as the receiving side last said."""

    state: AcquisitionState
    """See `layout.AcquisitionState`."""
    reason: str | None
    """Why it ended."""
    expected_frames: int | None
    """Projections that the plan announced; None when it did not say."""
    frame_shape: tuple[int, int] | None
    """(row, column) of a projection; None until the first is stored."""
    said_geometry: dict[str, Any]
    """What the run said of its geometry."""
    measurement: Measurement
    """What the images hold."""
    documents: dict[str, Any]
    """Start and descriptor documents, for a restart."""
    received: dict[str, int]
    """What the receiving side counted when it closed the acquisition: late, lost, refused."""

    @property
    def geometry(self) -> ScanGeometry | None:
        """None until the first projection is stored, unless the run said before how large frames are.

        Raises InputError for a geometry that cannot be.
        """
        return layout.geometry_of(self.said_geometry, self.frame_shape)

    @property
    def ended(self) -> bool:
        """No more frames will come."""
        return self.state != "receiving"


class TomogramReader:
    """Reads what is stored now, while others write. Rows of `frames` never change: each is read once and kept.

    Not safe to share between threads.

    Parameters
    ----------
    wire
        Connection to the server.
    key
        The tomogram.
    data_dir
        Folder in which the server may keep arrays on this machine; None to read through the server alone.
    """

    def __init__(self, wire: TiledHttp, key: TomogramKey, data_dir: Path | None) -> None:
        self.key = key
        self._wire = wire
        self._data_dir = data_dir
        self._rows = FrameRows(wire, key)
        self._arrays: dict[Role, FrameArray] = {}
        self._told: set[tuple[Role, int]] = set()
        """Damaged frames that the log names."""

    def metadata(self) -> dict[str, Any]:
        """The container's metadata: sample, run uids, geometry, status, parameters."""
        return nodes.get_node(self._wire, layout.container_path(self.key)).metadata

    def acquisition(self) -> Acquisition:
        """How far the frames are.

        Raises
        ------
        StoreMissingError
            There is no such tomogram.
        """
        container = self.metadata()
        frames = nodes.get_node(self._wire, layout.node_path(self.key, layout.FRAMES)).metadata
        array = self._node("projections")
        shape = None if array is None else (array.shape[1], array.shape[2])
        return Acquisition(
            state=frames.get("state", "receiving"),
            reason=frames.get("reason"),
            expected_frames=frames.get("expected_frames"),
            frame_shape=shape,
            said_geometry=dict(container.get("geometry") or {}),
            measurement=container.get("measurement") or "transmission",
            documents=dict(frames.get("documents") or {}),
            received=dict(frames.get("received") or {}),
        )

    def counts(self) -> dict[Role, int]:
        """Stored frames per role, from the rows of `frames`."""
        return {role: len(angles) for role, angles in self._rows.angles().items()}

    def frame_ids(self) -> frozenset[FrameId]:
        """(run uid, stream, seq_num, part, event uid) of every stored frame."""
        return frozenset(read_identities(self._wire, self.key)[2])

    def angle_of_run(self) -> dict[str, float]:
        """Degrees of the last projection of each run, without those that were withdrawn."""
        path = layout.node_path(self.key, layout.FRAMES)
        gone = self.withdrawn("projection")
        table = nodes.read_table(self._wire, path, ("role", "index", "angle", "run_uid"))
        rows = zip(table["role"], table["index"], table["angle"], table["run_uid"], strict=True)
        return {
            uid: math.nan if angle is None else float(angle)
            for role, row, angle, uid in rows
            if role == "projection" and row not in gone
        }

    def withdrawn(self, role: Role) -> frozenset[int]:
        """Rows that were taken again or taken back, and do not count.

        Parameters
        ----------
        role
            Whose array it is.

        Returns
        -------
        frozenset[int]
            Rows from 0.
        """
        path = layout.node_path(self.key, layout.FRAMES)
        return layout.withdrawn_rows(nodes.get_node(self._wire, path).metadata)[role]

    def angles(self, role: Role = "projection") -> NDArray[np.float64]:
        """Angles of the stored frames, in the order of their array.

        Parameters
        ----------
        role
            Whose array it is.

        Returns
        -------
        NDArray[np.float64]
            (angle,) degrees; NaN where there is none.
        """
        return self._rows.angles()[role]

    def batches(
        self, role: Role, start: int = 0, *, max_frames: int | None = None, max_bytes: int = ANSWER_BYTES
    ) -> Iterator[FrameBatch]:
        """Stored frames to the last row that `frames` has at the time of the call. Those that cannot be read any more
        are named in `FrameBatch.damaged`.

        Parameters
        ----------
        role
            Whose array it is.
        start
            First row.
        max_frames
            Frames of a batch, at most; None for any number.
        max_bytes
            Bytes of a batch, at most; one frame at least.

        Yields
        ------
        FrameBatch
            (angle, row, column), as stored.
        """
        angles = self.angles(role)
        if start >= len(angles):
            return
        if role not in self._arrays:
            self._arrays[role] = open_frames(self._wire, self.key, role, self._data_dir)
        array = self._arrays[role]
        length = max(1, min(max_bytes, ANSWER_BYTES) // (math.prod(array.shape) * array.dtype.itemsize))
        length = length if max_frames is None else max(1, min(length, max_frames))
        for first in range(start, len(angles), length):
            stop = min(first + length, len(angles))
            images, damaged = array.read(first, stop)
            yield FrameBatch(role, first, images, angles[first:stop], damaged=self._named(role, damaged))

    def _named(self, role: Role, damaged: Mapping[int, str]) -> dict[int, str]:
        """The same reasons, with what the frames are called; each is told to the log once."""
        if not damaged:
            return {}
        path, columns = layout.node_path(self.key, layout.FRAMES), ("role", "index", "run_uid", "seq_num")
        rows = zip(*nodes.read_table(self._wire, path, columns).values(), strict=True)
        names = {index: f"run {uid[:8]}, seq_num {seq_num}" for name, index, uid, seq_num in rows if name == role}
        told = {row: f"{names[row]}: {reason}" for row, reason in damaged.items()}
        for row, reason in told.items():
            if (role, row) not in self._told:
                logger.warning("%s %d is damaged and left out: %s", role, row, reason)
                self._told.add((role, row))
        return told

    def references(self) -> TomogramReader:
        """Where the flats and darks of this tomogram are: with it, or with another that its run named for them."""
        other = layout.references_of(self.metadata())
        if other is None:
            return self
        counts = self.counts()
        return self if counts["flat"] or counts["dark"] else TomogramReader(self._wire, other, self._data_dir)

    def volume(self) -> NDArray[np.float32] | None:
        """(z, y, x); None until the first one is published. During a publication slabs of two revisions may mix."""
        return self._read("volume")

    def physics(self) -> NDArray[np.float32] | None:
        """The physics-only volume, as `volume`."""
        return self._read("physics")

    def expected_error(self) -> NDArray[np.float32] | None:
        """The expected error of each voxel, as `volume`."""
        return self._read("expected_error")

    def result(self, name: ResultName) -> ResultArray | None:
        """A stored result, to be read slice by slice.

        Parameters
        ----------
        name
            Which one.

        Returns
        -------
        ResultArray | None
            None until it is published whole.
        """
        node = self._node(name)
        if node is None or node.metadata.get("revision") is None:
            return None
        path = layout.node_path(self.key, name)
        depth, height, width = node.shape
        revision = int(node.metadata["revision"])
        return ResultArray(self._wire, path, (depth, height, width), node.chunks[0], revision)

    def inferred(self) -> NDArray[np.float32] | None:
        """The part of the volume that no angle measured, as `volume`."""
        return self._read("inferred")

    def revision(self, name: ResultName = "volume") -> int | None:
        """Of the progress row that a stored result belongs to.

        Parameters
        ----------
        name
            Which one.

        Returns
        -------
        int | None
            None until it is published whole.
        """
        node = self._node(name)
        return None if node is None else node.metadata.get("revision")

    def progress(self) -> list[Progress]:
        """Every row of `progress`, oldest first."""
        try:
            columns = nodes.read_table(self._wire, layout.node_path(self.key, layout.PROGRESS), layout.PROGRESS_COLUMNS)
        except StoreMissingError:
            return []
        return layout.progress_rows(columns)

    def _node(self, name: str) -> nodes.Node | None:
        try:
            return nodes.get_node(self._wire, layout.node_path(self.key, name))
        except StoreMissingError:
            return None

    def _read(self, name: ResultName) -> NDArray[np.float32] | None:
        result = self.result(name)
        return None if result is None else result.read(0, result.shape[0])
