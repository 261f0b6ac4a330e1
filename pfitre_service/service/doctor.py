"""`pfitre doctor`: explains what the service would understand from a stored run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape

from pfitre_service.config import Settings
from pfitre_service.service.stored_documents import stored_documents
from pfitre_service.service.understanding import Line, Understanding

_STYLES = {"good": "green", "plain": "default", "warning": "yellow", "bad": "red"}


def diagnose(source: str, run: str | None, settings: Settings) -> dict[str, Any]:
    """Every line and the verdict, as `--json` prints them. Raises InputError, SettingsError, StoreError."""
    stored = stored_documents(source, run, settings.documents)
    understanding = Understanding(settings.documents)
    lines = understanding.take(stored.documents)
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
    console = Console()
    console.print(f"{diagnosis['source']}, by the profile {diagnosis['profile']!r}", highlight=False, soft_wrap=True)
    for line in diagnosis["lines"]:
        style = _STYLES[line["verdict"]]
        console.print(
            f"  [{style}]{line['about']:<9}[/{style}] {escape(line['text'])}", highlight=False, soft_wrap=True
        )
    if diagnosis["understood"] and diagnosis["findings"]:
        console.print(
            "[yellow]understood, but doubtful[/yellow]: see the lines named doubt before a volume is believed"
        )
    elif diagnosis["understood"]:
        console.print("[green]understood[/green]: a volume would come of it")
    else:
        console.print("[red]not understood[/red]: see the lines in red, and docs/how-to/describe-your-beamline.md")
