"""`pfitre doctor`: explains what the service would understand from a stored run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from pfitre_service.config import Settings
from pfitre_service.ingest.scan_files.file_order import Order
from pfitre_service.ingest.stored_runs.stored_documents import stored_documents
from pfitre_service.model import Measurement
from pfitre_service.offline.run_diagnosis import Line, RunDiagnosis
from pfitre_service.text_output import make_console, printable

_STYLES = {"good": "green", "plain": "default", "warning": "yellow", "bad": "red"}


def diagnose(
    source: str,
    run: str | None,
    settings: Settings,
    *,
    angles: Path | None = None,
    flats: str | None = None,
    darks: str | None = None,
    measurement: Measurement | None = None,
    order: Order = "auto",
) -> dict[str, Any]:
    """Every line and the verdict, as `--json` prints them. Raises InputError, SettingsError, StoreError.

    angles, flats, darks, measurement, order: see `stored_documents`.
    """
    stored = stored_documents(
        source, run, settings.documents, angles=angles, flats=flats, darks=darks, measurement=measurement, order=order
    )
    understanding = RunDiagnosis(settings.documents)
    lines = [Line("file", "plain", note) for note in stored.notes]
    lines += understanding.take(stored.documents)
    lines += [Line("left out", "warning", fault) for fault in stored.left_out()]
    return {
        "source": stored.source,
        "profile": settings.profile_name,
        "understood": understanding.is_understood,
        "findings": [asdict(finding) for finding in understanding.findings],
        "lines": [asdict(line) for line in lines],
    }


def render(diagnosis: dict[str, Any]) -> None:
    """Prints what `diagnose` found."""
    console = make_console()
    console.print(f"{diagnosis['source']}, by the profile {diagnosis['profile']!r}", soft_wrap=True)
    for line in diagnosis["lines"]:
        about = (f"  {line['about']:<9}", _STYLES[line["verdict"]])
        console.print(Text.assemble(about, f" {printable(line['text'])}"), soft_wrap=True)
    word, style, remark = _verdict(diagnosis)
    console.print(Text.assemble((word, style), f": {remark}"))


def _verdict(diagnosis: dict[str, Any]) -> tuple[str, str, str]:
    """What it comes to, in which style, and what to do."""
    if not diagnosis["understood"]:
        return "not understood", "red", "see the lines in red, and docs/how-to/describe-your-beamline.md"
    if diagnosis["findings"]:
        return "understood, but doubtful", "yellow", "see the lines named doubt before a volume is believed"
    return "understood", "green", "a volume would come of it"
