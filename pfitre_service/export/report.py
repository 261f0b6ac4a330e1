"""One page for the logbook: pictures, curves, angles, a plain sentence, provenance and warnings, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from pfitre_service.export import pictures
from pfitre_service.export.files import whole_or_not_at_all
from pfitre_service.export.provenance import provenance
from pfitre_service.export.tomogram import Tomogram
from pfitre_service.text_output import percent, printable

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_ORIGINS = {"given": "as the run said", "found": "found from the projections", "middle": "the middle of the detector"}


def report(tomogram: Tomogram) -> str:
    """The page; it asks nothing of any other address. Reads a sample of slices and three cuts of each array.

    Parameters
    ----------
    tomogram
        What is shown.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    StoreError
        The slices could not be read.
    """
    document = _shown(provenance(tomogram))
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        name=tomogram.name,
        measured=moment(document["created"]),
        versions=", ".join(f"{name} {version}" for name, version in document["exported"]["versions"].items()),
        made=moment(document["exported"]["at"]),
        document=document,
        sentence=document["quality"]["sentence"],
        slices=pictures.draw_slices(tomogram, pictures.choose_cuts(tomogram)),
        curves=pictures.draw_curves(tomogram.progress),
        dial=pictures.draw_dial(tomogram.counting_angles),
        has_expected_error="expected_error" in tomogram.arrays,
        measures=measures(document),
        facts=[(name, value) for name, value in facts(tomogram, document) if value],
    )


def _shown(value: Any) -> Any:
    """Every text in it as a page can hold and a person can see it."""
    if isinstance(value, Mapping):
        return {name: _shown(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return printable(value, lines=True) if isinstance(value, str) else value


def write_report(path: Path, tomogram: Tomogram) -> None:
    """Writes the page; the file appears whole or not at all.

    Parameters
    ----------
    path
        Of the output.
    tomogram
        What is shown.

    Raises
    ------
    InputError
        The disk refuses.
    StoreError
        The slices could not be read.
    """
    page = report(tomogram)
    with whole_or_not_at_all(path) as partial:
        partial.write_text(page, encoding="utf-8")


def facts(tomogram: Tomogram, document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table.

    Parameters
    ----------
    tomogram
        What is shown.
    document
        Its provenance.

    Returns
    -------
    list[tuple[str, str]]
        (name, value); an empty value is left out of the page.
    """
    runs = document["run_uids"] or []
    parameters = document["parameters"] or {}
    return [
        ("tomogram", tomogram.id),
        ("runs", "" if runs == [tomogram.id] else _shortened(runs)),
        ("profile", _text(document["profile"])),
        ("measured", moment(document["created"])),
        ("finished", moment(document["status_time"]) if tomogram.is_final else ""),
        ("projections", _projections(tomogram, document)),
        ("volume", _volume(tomogram)),
        ("rotation axis", _axis(document["calibration"] or document["geometry"] or {})),
        ("prior", _text(document["prior"])),
        ("weights", f"SHA-256 {document['weights_sha256']}" if document["weights_sha256"] else ""),
        ("solver", _settings(parameters.get("recon") or {})),
        ("computed", _computed(document)),
        ("software", _text(document["software"])),
    ]


def moment(written: str | None) -> str:
    """A time as people write it.

    Parameters
    ----------
    written
        Such as `2026-11-25T16:56:12+00:00`; None where it is not known.

    Returns
    -------
    str
        Empty where it is not known.
    """
    return f"{written[:16].replace('T', ' ')} UTC" if written else ""


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _shortened(runs: list[str]) -> str:
    return ", ".join(runs) if len(runs) <= 3 else f"{runs[0]} to {runs[-1]} ({len(runs)} runs)"


def _projections(tomogram: Tomogram, document: Mapping[str, Any]) -> str:
    angles = document["angles"]
    parts = [f"{_text(document['frames_used']) or 'none'} of {angles['stored']} used"]
    parts += [f"{angles['held_out']} held out for the error"] if angles["held_out"] else []
    parts += [f"{len(angles['withdrawn'])} withdrawn"] if angles["withdrawn"] else []
    parts += [f"{document['frames_unusable']} unusable"] if document["frames_unusable"] else []
    parts += [f"{document['frames_damaged']} of these damaged in the store"] if document["frames_damaged"] else []
    parts += [f"scan {tomogram.acquisition['state']}"] if tomogram.acquisition.get("state") else []
    return ", ".join(parts)


def _volume(tomogram: Tomogram) -> str:
    shape = " × ".join(map(str, tomogram.shape))
    size = tomogram.pixel_size_nm
    if size is None:
        return f"{shape} (z, y, x) voxels of unknown size"
    whole = " × ".join(pictures.in_words(count * size, size) for count in tomogram.shape)
    return f"{shape} (z, y, x) voxels of {size:.4g} nm: {whole}"


def _axis(calibration: Mapping[str, Any]) -> str:
    axis = calibration.get("axis")
    if axis is None:
        return ""
    origin = _ORIGINS.get(str(calibration.get("axis_origin")))
    within = calibration.get("axis_uncertainty")
    shifted = sum(bool(shift) for shift in calibration.get("shifts") or ())
    parts = [f"column {axis:.2f}" + (f" ± {within:.2f}" if within else ""), *([origin] if origin else [])]
    return ", ".join([*parts, *([f"{shifted} projections shifted against drift"] if shifted else [])])


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _computed(document: Mapping[str, Any]) -> str:
    seconds, iterations = (document["quality"][name] for name in ("seconds", "iterations"))
    parts = [f"{iterations:.0f} iterations"] if iterations else []
    parts += [f"{seconds:.0f} s of computing"] if seconds else []
    return ", ".join([*parts, f"on {document['device']}"] if document["device"] else parts)


def measures(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The numbers that the sentence rests on.

    Parameters
    ----------
    document
        Provenance.

    Returns
    -------
    list[tuple[str, str, str]]
        (name, value, what it means).
    """
    meanings = {
        "heldout_error": ("held-out error", "of unseen projections is not explained"),
        "heldout_error_physics": ("physics alone", "the same without a prior"),
        "residual": ("residual", "the same on the projections used"),
        "noise_floor": ("noise floor", "held-out error of a perfect volume"),
        "prior_gap": ("prior gap", "how far prior and data disagree"),
        "expected_error": ("expected error", "of the volume, as simulated samples have calibrated it"),
        "inferred_share": ("inferred part", "of the volume no angle measured"),
        "simulated_error": ("error of its like", "of simulated samples of which as much was inferred: half of them"),
        "simulated_error_upper": ("and up to", "nine in ten of them, in each kind of sample"),
        "simulated_lost_upper": ("material gone", "up to so much of what was dense in them"),
    }
    quality = document["quality"]
    return [
        (name, percent(quality[key]) if quality[key] is not None else "not measured", meaning)
        for key, (name, meaning) in meanings.items()
    ]
