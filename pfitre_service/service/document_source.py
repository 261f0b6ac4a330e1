"""Where live documents come from, by the settings, when they do not come out of the spool."""

from __future__ import annotations

from pfitre_service.config import Settings
from pfitre_service.ingest import Source
from pfitre_service.ingest.sources.kafka_source import KafkaSource
from pfitre_service.ingest.sources.tiled_source import TiledSource
from pfitre_service.ingest.stored_runs.stored_documents import readable_files


def document_source(settings: Settings) -> Source:
    """Raises SettingsError for one that cannot be."""
    source = settings.source
    max_bytes = source.max_message_mib << 20
    if source.kind == "kafka":
        return KafkaSource(
            source.address,
            source.kafka_topics,
            group=source.kafka_group,
            options=source.kafka_options,
            max_message_bytes=max_bytes,
        )
    return TiledSource(source.address, readable_files(settings.documents))
