"""Documents and files in: sources, the safe decoder, the tomogram state machine, stored scans."""

from pfitre_service.ingest.actions import (
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
from pfitre_service.ingest.angles import AngleNotKnownYetError
from pfitre_service.ingest.announced import frames_of
from pfitre_service.ingest.assembler import TomogramAssembler
from pfitre_service.ingest.callback import CallbackCounts, LiveCallback
from pfitre_service.ingest.counts import IngestCounts, RunSummary, TomogramCounts
from pfitre_service.ingest.files import read_scan
from pfitre_service.ingest.frame_files import FrameFiles, NotReadableYetError
from pfitre_service.ingest.json_lines import JsonLines, holds_documents
from pfitre_service.ingest.proxy import DocumentProxy
from pfitre_service.ingest.reception import Source, SourceCounts
from pfitre_service.ingest.renaming import NewUids
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.ingest.scan_documents import documents_of_scan
from pfitre_service.ingest.stored_scan import StoredScan, said_to_hold
from pfitre_service.ingest.zmq_source import ZmqSource

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
    "DocumentProxy",
    "DocumentRules",
    "EndRun",
    "FrameFiles",
    "IngestCounts",
    "JsonLines",
    "LiveCallback",
    "NewUids",
    "NotReadableYetError",
    "Note",
    "OpenTomogram",
    "ReadFrames",
    "RetakeFrames",
    "RunSummary",
    "Source",
    "SourceCounts",
    "StoredScan",
    "TomogramAssembler",
    "TomogramCounts",
    "WithdrawRun",
    "ZmqSource",
    "documents_of_scan",
    "frames_of",
    "holds_documents",
    "read_scan",
    "said_to_hold",
]
