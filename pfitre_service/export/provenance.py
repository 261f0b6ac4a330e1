"""Where a tomogram comes from and how far it may be believed, as one JSON document that every export carries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pfitre_service.export.tomogram import Tomogram, last_measured
from pfitre_service.json_values import plain
from pfitre_service.recon.quality.directions import described, measured_ranges, missing_degrees
from pfitre_service.software import signature, versions
from pfitre_service.store import layout

_MEASURES = ("heldout_error", "heldout_error_physics", "residual", "prior_gap", "iterations", "seconds")
_STATED = (
    "noise_floor",
    "expected_error",
    "inferred_share",
    "missing_share",
    "simulated_error",
    "simulated_error_upper",
    "simulated_lost_upper",
    "next_angle",
)


def provenance(tomogram: Tomogram) -> dict[str, Any]:
    """Where a tomogram comes from and how far it may be believed.

    Parameters
    ----------
    tomogram
        That is exported.

    Returns
    -------
    dict[str, Any]
        JSON values alone; what is not known is null.
    """
    told = tomogram.metadata
    document = {
        "tomogram": tomogram.id,
        "name": tomogram.name,
        **layout.origin(told),
        "status": told.get("status"),
        "reason": told.get("reason"),
        "is_final": tomogram.is_final,
        "acquisition": dict(tomogram.acquisition),
        "revision": tomogram.revision,
        "created": _time(told.get("created")),
        "status_time": _time(told.get("status_time")),
        "shape": list(tomogram.shape),
        "axis_order": "z, y, x",
        "arrays": list(tomogram.arrays),
        "unit": unit(tomogram),
        "voxel_size_nm": tomogram.pixel_size_nm,
        "angles": _angles(tomogram),
        "quality": _quality(tomogram),
        "warnings": [*warnings(tomogram), *(told.get("warnings") or [])],
        "exported": {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "from": tomogram.source,
            "by": signature(),
            "versions": versions(),
        },
    }
    cleaned: dict[str, Any] = plain(document, "provenance")
    return cleaned


def warnings(tomogram: Tomogram) -> list[str]:
    """What a person must know before the exported arrays are used.

    Parameters
    ----------
    tomogram
        That is exported.

    Returns
    -------
    list[str]
        Sentences; none for a final tomogram.
    """
    if tomogram.is_final:
        return []
    state = tomogram.metadata.get("status") or "unknown"
    return [
        f"Exported while the tomogram was {state}, not final: it may get better, and slices of several revisions may "
        "stand beside each other."
    ]


def unit(tomogram: Tomogram) -> str:
    """Unit of a voxel's value.

    Parameters
    ----------
    tomogram
        That is exported.

    Returns
    -------
    str
        In words.
    """
    if tomogram.metadata.get("measurement") == "line_integral":
        return "measured quantity per pixel"
    return "attenuation per pixel"


def _angles(tomogram: Tomogram) -> dict[str, Any]:
    counting = tomogram.counting_angles
    degrees = [angle for angle, _ in counting]
    return {
        "unit": "degree",
        "stored": len(tomogram.angles),
        "withdrawn": sorted(tomogram.withdrawn),
        "held_out": sum(held for _, held in counting),
        "missing": missing_degrees(measured_ranges(degrees)),
        "values": degrees,
    }


def _quality(tomogram: Tomogram) -> dict[str, Any]:
    degrees = [angle for angle, _ in tomogram.counting_angles]
    measured = {name: last_measured(tomogram.progress, name) for name in _MEASURES}
    stated = tomogram.metadata.get("quality") or {}
    shares = {name: stated.get(name) for name in _STATED}
    return {
        "sentence": stated.get("sentence") or f"{described(measured_ranges(degrees))}; its error was not worked out.",
        **measured,
        **shares,
    }


def _time(seconds: Any) -> str | None:
    if not isinstance(seconds, int | float):
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
