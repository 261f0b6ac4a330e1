"""The files that the documents of one run announce, and the datums that tie them to events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.assembly.file_references import FileSource, source_of
from pfitre_service.ingest.document_values import quoted

_MAX_RESOURCES = 100_000
_MAX_DATUMS = 100_000


@dataclass(frozen=True, slots=True)
class PendingDatum:
    """A value that an event refers to by a datum."""

    descriptor_uid: str
    seq_num: int
    key: str
    event_uid: str = ""
    """Of the event that refers to it, which is another one when a point is taken again."""

    @property
    def place(self) -> tuple[str, int, str]:
        """What every take of this value has in common."""
        return self.descriptor_uid, self.seq_num, self.key


class RunFiles:
    """Joins datums to the events that name them, whichever comes first."""

    def __init__(self) -> None:
        self.duplicates = 0
        self._sources: dict[str, FileSource | DocumentError] = {}
        """By the uid of the document that announced them; what could not be understood is said when it is needed."""
        self._data_key: dict[str, str] = {}
        self._datums: dict[str, tuple[str, Mapping[str, Any]]] = {}
        """Datums that no event has named yet: datum_id to the uid of its resource and the document."""
        self._wanted: dict[str, PendingDatum] = {}
        """Datums that an event has named and that have not come."""
        self._named_for: dict[tuple[str, int, str], str] = {}
        """The same, by what they are wanted for."""

    def announce(self, uid: str, document: Mapping[str, Any]) -> None:
        """Take in a resource or stream_resource. Raises `DocumentError` when there are too many."""
        if len(self._sources) >= _MAX_RESOURCES:
            raise DocumentError(f"a run has more than {_MAX_RESOURCES} files")
        try:
            self._sources[uid] = source_of(document)
        except DocumentError as error:  # of a detector that holds no frames, perhaps
            self._sources[uid] = error
        self._data_key[uid] = str(document.get("data_key", ""))

    def source(self, uid: str) -> FileSource:
        """Raises `DocumentError` for a file that cannot be understood."""
        source = self._sources[uid]
        if isinstance(source, DocumentError):
            raise source
        return source

    def data_key(self, uid: str) -> str:
        """Of what a stream_resource holds."""
        return self._data_key.get(uid, "")

    def datum(self, resource_uid: str, document: Mapping[str, Any]) -> PendingDatum | None:
        """Take in a datum; returns who waits for it. Raises `DocumentError`."""
        datum_id = document.get("datum_id")
        if not isinstance(datum_id, str):
            raise DocumentError(f"expected a text as datum_id, got {quoted(datum_id)}")
        wanted = self._wanted.pop(datum_id, None)
        if wanted is not None:
            self._named_for.pop(wanted.place, None)
            return wanted
        if datum_id in self._datums:
            self.duplicates += 1
        elif len(self._datums) >= _MAX_DATUMS:
            raise DocumentError(f"{_MAX_DATUMS} datums of one run wait for their events")
        self._datums[datum_id] = (resource_uid, document)
        return None

    def named(self, datum_id: str, want: PendingDatum) -> tuple[str, Mapping[str, Any]] | None:
        """The resource and document of a datum that an event names, if it has come; else it is waited for.

        What an earlier take of the same event named is waited for no longer.
        """
        self._wanted.pop(self._named_for.pop(want.place, ""), None)
        known = self._datums.pop(datum_id, None)
        if known is None:
            if len(self._wanted) >= _MAX_DATUMS:
                raise DocumentError(f"{_MAX_DATUMS} events of one run wait for their datums")
            self._wanted[datum_id] = want
            self._named_for[want.place] = datum_id
        return known
