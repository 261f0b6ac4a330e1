"""Documents as lines of JSON, one a document: {"name": ..., "doc": ...}."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Callback = Callable[[str, Mapping[str, Any]], None]


def record_to(path: Path) -> Callback:
    """A callback for a RunEngine that adds every document to the file at `path`; arrays become nested lists."""
    import event_model
    from bluesky.callbacks.json_writer import JSONLinesWriter

    writer = JSONLinesWriter(str(path.parent), path.name)
    return lambda name, document: writer(name, event_model.sanitize_doc(document))


def recorded(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, document) of every line."""
    import json

    with path.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            yield entry["name"], entry["doc"]
