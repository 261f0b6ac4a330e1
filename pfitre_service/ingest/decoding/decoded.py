"""The names of Bluesky's documents."""

from __future__ import annotations

DOCUMENT_NAMES = frozenset(
    {
        "start",
        "stop",
        "descriptor",
        "event",
        "event_page",
        "resource",
        "datum",
        "datum_page",
        "stream_resource",
        "stream_datum",
        "bulk_events",
        "bulk_datum",
    }
)
"""Those of event-model, held against it by a test."""
