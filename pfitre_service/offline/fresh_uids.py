"""Documents of a stored run under new uids, so that it can be played again beside what came of it before."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

_UIDS = ("uid", "run_start", "descriptor", "resource", "stream_resource", "datum_id")
"""Keys of documents, at their top, that hold a uid."""


class FreshUids:
    """Gives every uid another one, the same for each mention: of runs, streams, files, datums and events.

    A start document keeps the old uid of its run as `replay_of`, and its mention of a run that came before (such as the
    one with its flats) follows that run. Times stay, because angles may be found by them.
    """

    def __init__(self) -> None:
        self._space = uuid.uuid4()
        self._runs: set[str] = set()
        self._in_files: dict[str, list[str]] = {}
        """Uid of a descriptor to its data keys whose values are datum ids."""

    def renamed(self, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the document, with new uids."""
        fresh = {key: self._of(value) if key in _UIDS else value for key, value in document.items()}
        if name == "start":
            fresh |= {key: self._of(value) for key, value in document.items() if self._is_past_run(value)}
            fresh["replay_of"] = document.get("uid")
            self._runs.add(str(document.get("uid")))
        if name == "descriptor":
            keys = document.get("data_keys") or {}
            self._in_files[str(document.get("uid"))] = [key for key in keys if keys[key].get("external")]
        if name in ("event", "event_page"):
            data = document.get("data") or {}
            files = self._in_files.get(str(document.get("descriptor")), [])
            fresh["data"] = {**data, **{key: self._of(data[key]) for key in files if key in data}}
        return fresh

    def _is_past_run(self, value: Any) -> bool:
        return isinstance(value, str) and value in self._runs

    def _of(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._of(item) for item in value]
        return str(uuid.uuid5(self._space, value)) if isinstance(value, str) else value
