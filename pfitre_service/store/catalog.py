"""The catalogue of tomograms: making them, listing them, and the readers and writers of each."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from pfitre_service.errors import StoreError, StoreMissingError
from pfitre_service.model import Measurement, Role, ScanGeometry, TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.acquisition_writer import AcquisitionWriter
from pfitre_service.store.layout import AcquisitionState
from pfitre_service.store.reader import TomogramReader
from pfitre_service.store.result_writer import ResultWriter
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import TiledHttp

logger = logging.getLogger(__name__)

_PAGE = 100


@dataclass(frozen=True, slots=True)
class TomogramSummary:
    """What a list of tomograms shows of one."""

    key: TomogramKey
    """Its name."""
    metadata: dict[str, Any]
    """The container's: sample, run uids, status and its reason, parameters."""
    acquisition: AcquisitionState
    """See `layout.AcquisitionState`."""
    reason: str | None
    """Why the acquisition ended."""
    expected_frames: int | None
    """Projections that the plan announced; None when it did not say."""
    frames: dict[Role, int]
    """Stored frames per role; may lag behind `frames` by the batch that is being written. Flats and darks of another
    run count, where this one named it for them and has none."""
    revision: int | None
    """Of the stored volume; None until there is one."""
    frame_shape: tuple[int, int] | None
    """(row, column) of a projection; None until the first is stored."""
    has_results: bool
    """Whether a worker has begun to write what it makes of the frames."""
    withdrawn: tuple[int, ...] = ()
    """Rows of `projections` that were redone or withdrawn and do not count."""
    withdrawn_references: int = 0
    """How many of the flats and darks were taken again and do not count."""

    @property
    def status(self) -> str:
        """Of the reconstruction, such as iterating or final."""
        return str(self.metadata.get("status", "idle"))

    @property
    def measurement(self) -> Measurement:
        """What the images hold."""
        return self.metadata.get("measurement") or "transmission"

    @property
    def measurement_said(self) -> bool:
        """Whether profile or start document said what the images hold."""
        return bool(self.metadata.get("measurement_said", True))

    @property
    def geometry(self) -> ScanGeometry | None:
        """None until the first projection is stored, unless the run said before how large frames are.

        Raises InputError for what the run said of it, if that cannot be: so one such run does not spoil the list.
        """
        return layout.geometry_of(self.metadata.get("geometry") or {}, self.frame_shape)


class Catalog:
    """A connection to the catalogue. Safe to share between threads; its writers are not.

    Parameters
    ----------
    wire
        Connection to the server.
    data_dir
        As `connect` has it.
    """

    def __init__(self, wire: TiledHttp, data_dir: Path | None = None) -> None:
        self._wire = wire
        self._data_dir = data_dir
        self._settled: dict[str, TomogramSummary] = {}

    @classmethod
    def connect(
        cls,
        uri: str,
        api_key: str | None,
        *,
        timeout_s: float = 60.0,
        request_timeout_s: float = 20.0,
        data_dir: Path | None = None,
    ) -> Catalog:
        """Wait for the server at `uri` and check that `api_key` opens it; without a key the catalogue is only read.

        Parameters
        ----------
        uri
            Root address of the server.
        api_key
            None to read only.
        timeout_s, request_timeout_s
            Seconds to wait for the server, and for one answer.
        data_dir
            Folder that this very server works on, if it may be on this machine: frames are written and read there.

        Returns
        -------
        Catalog
            An open connection; close it, or use it as a context manager.

        Raises
        ------
        StoreUnavailableError
            Nothing answered within `timeout_s`.
        StoreError
            It answers, and refuses.
        """
        return cls._connect(uri, api_key, timeout_s, request_timeout_s, data_dir, writes=api_key is not None)

    @classmethod
    def connect_to_read(
        cls, uri: str, api_key: str | None, *, timeout_s: float = 60.0, request_timeout_s: float = 20.0
    ) -> Catalog:
        """As `connect`, and nothing is made there, whatever `api_key` allows."""
        return cls._connect(uri, api_key, timeout_s, request_timeout_s, None, writes=False)

    @classmethod
    def _connect(
        cls,
        uri: str,
        api_key: str | None,
        timeout_s: float,
        request_timeout_s: float,
        data_dir: Path | None,
        *,
        writes: bool,
    ) -> Catalog:
        nodes.preload()
        wire = TiledHttp(uri, api_key, timeout_s=request_timeout_s)
        try:
            wire.wait_ready(timeout_s)
            if writes:
                nodes.create_container(wire, "", layout.ROOT, {"layout": layout.VERSION})
            layout.check_version(nodes.get_node(wire, layout.ROOT).metadata, wire.uri)
        except BaseException:
            wire.close()
            raise
        logger.info("connected to Tiled at %s", wire.uri)
        return cls(wire, data_dir)

    @property
    def uri(self) -> str:
        """The server's root address."""
        return self._wire.uri

    def close(self) -> None:
        """Ends the connection."""
        self._wire.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answers(self) -> bool:
        """Whether the server reads from the catalogue now."""
        for _ in range(2):  # Tiled drops the connection after a failure: the first request may find it gone
            with suppress(StoreError):
                nodes.get_node(self._wire, layout.ROOT)
                return True
        return False

    def create(
        self,
        key: TomogramKey,
        metadata: Mapping[str, Any],
        *,
        expected_frames: int | None = None,
        documents: Mapping[str, Any] | None = None,
    ) -> bool:
        """Makes a tomogram, ready for frames.

        Parameters
        ----------
        key
            Its name.
        metadata
            Sample, run_uids, geometry (see `layout.geometry_document`; rows and columns may be missing), measurement,
            profile, software version.
        expected_frames
            Projections that the plan announced; None when it did not say.
        documents
            Start and descriptor documents that a restart needs.

        Returns
        -------
        bool
            False where it is there already: it is resumed, its metadata left alone.
        """
        document = {"status": "receiving", "created": time.time(), **metadata}
        created = nodes.create_container(self._wire, layout.ROOT, key.id, document)
        acquisition = {"state": "receiving", "expected_frames": expected_frames, "documents": dict(documents or {})}
        schema = layout.table_schema(layout.FRAME_COLUMNS)
        nodes.create_table(self._wire, layout.container_path(key), layout.FRAMES, schema, acquisition)
        if created:
            logger.info("created %s", layout.container_path(key))
        return created

    def keys(self) -> list[TomogramKey]:
        """Every tomogram, newest last."""
        return list(self.entries())

    def entries(self) -> dict[TomogramKey, dict[str, Any]]:
        """Every tomogram with its metadata, newest last; a request for each hundred."""
        entries: dict[TomogramKey, dict[str, Any]] = {}
        while True:
            page = nodes.list_nodes(self._wire, layout.ROOT, limit=_PAGE, offset=len(entries))
            entries |= {TomogramKey(node.key): node.metadata for node in page}
            if len(page) < _PAGE:
                return entries

    def newest_entry(self, search: int = 20) -> tuple[TomogramKey, dict[str, Any]] | None:
        """The newest tomogram with its metadata, runs of flats and darks alone left out; None where there is none among
        the newest `search`. One request, and one more for each that is left out."""
        for place in range(search):
            page = nodes.list_nodes(self._wire, layout.ROOT, limit=1, offset=place, newest_first=True)
            if not page:
                return None
            if page[0].metadata.get("status") != "references":
                return TomogramKey(page[0].key), page[0].metadata
        return None

    def summaries(self, newest: int = 20) -> list[TomogramSummary]:
        """The newest tomograms, newest last. One request, and one more for each that has not come to its end."""
        containers = nodes.list_nodes(self._wire, layout.ROOT, limit=newest, newest_first=True)
        return [self._summary(container) for container in reversed(containers)]

    def unfinished(self) -> list[TomogramSummary]:
        """Every tomogram that has not come to its end, newest last, however many came after it. A request for each
        hundred, and one more for each."""
        found: list[TomogramSummary] = []
        while True:
            page = nodes.list_nodes(
                self._wire, layout.ROOT, limit=_PAGE, offset=len(found), none_of={"status": layout.ENDED}
            )
            found += [self._summary(container) for container in page]
            if len(page) < _PAGE:
                return found

    def summary(self, key: TomogramKey) -> TomogramSummary:
        """What is stored of one tomogram.

        Parameters
        ----------
        key
            The tomogram.

        Returns
        -------
        TomogramSummary
            As it is now.

        Raises
        ------
        StoreMissingError
            There is no such tomogram.
        """
        return self._summary(nodes.get_node(self._wire, layout.container_path(key)))

    def acquisition_writer(self, key: TomogramKey) -> AcquisitionWriter:
        """Writes the frames of a tomogram."""
        return AcquisitionWriter(self._wire, key, self._data_dir)

    def result_writer(self, key: TomogramKey) -> ResultWriter:
        """Writes what is made of a tomogram."""
        return ResultWriter(self._wire, key, self._data_dir)

    def reader(self, key: TomogramKey) -> TomogramReader:
        """Reads a tomogram."""
        return TomogramReader(self._wire, key, self._data_dir)

    def _summary(self, container: nodes.Node) -> TomogramSummary:
        kept = self._settled.get(container.key)
        if kept is not None and kept.metadata == container.metadata:
            return kept
        key = TomogramKey(container.key)
        children = {node.key: node for node in nodes.list_nodes(self._wire, layout.container_path(key))}
        summary = self._with_references(_summarize(key, container.metadata, children))
        if summary.status in layout.ENDED and summary.acquisition != "receiving":
            self._settled[container.key] = summary
        else:
            self._settled.pop(container.key, None)
        return summary

    def _with_references(self, summary: TomogramSummary) -> TomogramSummary:
        """Counts of the flats and darks of another run, where these are this tomogram's."""
        other = layout.references_of(summary.metadata)
        if other is None or summary.frames["flat"] or summary.frames["dark"]:
            return summary
        try:
            metadata = nodes.get_node(self._wire, layout.node_path(other, layout.FRAMES)).metadata
        except StoreMissingError:  # that run is still to come, or was not seen
            return summary
        counts = metadata.get("counts") or {}
        theirs: dict[Role, int] = {"flat": int(counts.get("flat", 0)), "dark": int(counts.get("dark", 0))}
        gone = layout.withdrawn_rows(metadata)
        withdrawn = len(gone["flat"]) + len(gone["dark"])
        return replace(summary, frames=summary.frames | theirs, withdrawn_references=withdrawn)


def _summarize(key: TomogramKey, metadata: dict[str, Any], children: Mapping[str, nodes.Node]) -> TomogramSummary:
    frames = children[layout.FRAMES].metadata if layout.FRAMES in children else {}
    volume = children["volume"].metadata if "volume" in children else {}
    counts = frames.get("counts") or {}
    withdrawn = layout.withdrawn_rows(frames)
    array = children.get(layout.ARRAY_OF_ROLE["projection"])
    return TomogramSummary(
        key=key,
        metadata=metadata,
        acquisition=frames.get("state", "receiving"),
        reason=frames.get("reason"),
        expected_frames=frames.get("expected_frames"),
        frames={role: int(counts.get(role, 0)) for role in layout.ARRAY_OF_ROLE},
        revision=volume.get("revision"),
        frame_shape=None if array is None else (array.shape[1], array.shape[2]),
        withdrawn=tuple(sorted(withdrawn["projection"])),
        withdrawn_references=len(withdrawn["flat"]) + len(withdrawn["dark"]),
        has_results=not children.keys().isdisjoint(("volume", layout.PROGRESS)),
    )
