"""Documents and files in: sources, the safe decoder, the tomogram state machine, stored scans."""

from pfitre_service.ingest.assembly.actions import (
    AbandonTomogram,
    Action,
    AddDocument,
    AddFrames,
    AddReferences,
    AddRun,
    CloseTomogram,
    EndRun,
    Note,
    OpenTomogram,
    ReadFrames,
    RetakeFrames,
    WithdrawRun,
)
from pfitre_service.ingest.assembly.angle_track import AngleNotKnownYetError
from pfitre_service.ingest.assembly.assembler import TomogramAssembler
from pfitre_service.ingest.assembly.counts import IngestCounts, RunSummary, TomogramCounts
from pfitre_service.ingest.detector_files.frame_files import FrameFiles, NotReadableYetError, frames_of
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.ingest.scan_files.read_scan import read_scan
from pfitre_service.ingest.scan_files.stored_scan import StoredScan, with_measurement
from pfitre_service.ingest.sources.run_engine_callback import CallbackCounts, LiveCallback
from pfitre_service.ingest.sources.source import Source, SourceCounts
from pfitre_service.ingest.sources.spool_source import SpoolSource
from pfitre_service.ingest.sources.zmq_receiver import ZmqReceiver
from pfitre_service.ingest.spool.reader import SpoolReader
from pfitre_service.ingest.spool.writer import SpoolFullError, SpoolWriter
from pfitre_service.ingest.stored_runs.json_lines import JsonLines, holds_documents
from pfitre_service.ingest.stored_runs.scan_documents import documents_of_scan

__all__ = [
    "AbandonTomogram",
    "Action",
    "AddDocument",
    "AddFrames",
    "AddReferences",
    "AddRun",
    "AngleNotKnownYetError",
    "CallbackCounts",
    "CloseTomogram",
    "DocumentRules",
    "EndRun",
    "FrameFiles",
    "IngestCounts",
    "JsonLines",
    "LiveCallback",
    "NotReadableYetError",
    "Note",
    "OpenTomogram",
    "ReadFrames",
    "RetakeFrames",
    "RunSummary",
    "Source",
    "SourceCounts",
    "SpoolFullError",
    "SpoolReader",
    "SpoolSource",
    "SpoolWriter",
    "StoredScan",
    "TomogramAssembler",
    "TomogramCounts",
    "WithdrawRun",
    "ZmqReceiver",
    "documents_of_scan",
    "frames_of",
    "holds_documents",
    "read_scan",
    "with_measurement",
]
