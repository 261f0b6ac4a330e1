"""Figures in words."""

from __future__ import annotations

from collections.abc import Sequence

from pfitre_service.model import Progress


def last_measured(rows: Sequence[Progress], name: str) -> float | None:
    """The newest value of a column of `progress` that is a measurement."""
    return next((float(value) for row in reversed(rows) if (value := getattr(row, name)) > 0), None)


def percent(share: float) -> str:
    """Two figures, and never in powers of ten."""
    return f"{float(f'{100 * share:.2g}'):g} %"
