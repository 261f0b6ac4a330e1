"""What a start document says about the tomogram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.document_values import finite, look_up, quoted, whole
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.model import Measurement
from pfitre_service.text_output import storable

_MAX_SAMPLE = 200
_MAX_REFERENCE = 100


@dataclass(frozen=True, slots=True)
class StartMetadata:
    """The few keys of a start document that matter here; what is absent or makes no sense is None."""

    uid: str
    scan_id: int | None
    sample: str | None
    measurement: Measurement
    measurement_stated: bool
    """Whether profile or start document said it."""
    expected_frames: int | None
    expected_projections: int | None
    """What the plan says of a whole tomogram, also of many runs."""
    references: str | None
    """Uid of another run with flats and darks."""
    axis: float | None
    pixel_size_nm: float | None

    @classmethod
    def from_start(cls, uid: str, start: Mapping[str, Any], rules: DocumentRules) -> StartMetadata:
        """Read the optional keys scan_id, sample_name or sample, measurement, num_projections or num_points,
        rotation_axis (column), pixel_size_nm, and the one that `references_from` names."""
        pixel = finite(start.get("pixel_size_nm"))
        frames = [whole(start.get(key)) for key in ("num_projections", "num_points")]
        return cls(
            uid=uid,
            scan_id=whole(start.get("scan_id")),
            sample=_sample(start),
            measurement=_measurement(start, rules),
            measurement_stated=rules.measurement != "auto" or str(start.get("measurement")) in get_args(Measurement),
            expected_frames=next((number for number in frames if number is not None and number > 0), None),
            expected_projections=frames[0] if frames[0] and frames[0] > 0 else None,
            references=_reference(start, rules),
            axis=finite(start.get("rotation_axis")),
            pixel_size_nm=pixel if pixel is not None and pixel > 0 else None,
        )


def angles_of_start(start: Mapping[str, Any], rules: DocumentRules, first: int, count: int) -> list[float]:
    """Degrees of the projections `first` to `first + count` of a plan with even steps. Raises `DocumentError`."""
    keys = rules.angle_start_keys
    begin, end, number = finite(start.get(keys[0])), finite(start.get(keys[1])), whole(start.get(keys[2]))
    if begin is None or end is None or number is None or number < 2:
        raise DocumentError(
            f"expected first angle, last angle and number of projections (2 or more) under the start document's keys "
            f"{', '.join(keys)} (documents.angle_start_keys), got {begin}, {end}, {number}"
        )
    step = (end - begin) / (number - 1)
    angles = [begin + step * row for row in range(first, first + count)]
    return [angle * rules.degrees_per_unit for angle in angles]


def contradictions(start: Mapping[str, Any]) -> list[str]:
    """Sentences about optional keys that are there but cannot be used."""
    said = []
    measurement = start.get("measurement")
    if measurement is not None and str(measurement) not in ("transmission", "line_integral"):
        said.append(
            f"measurement {quoted(measurement)} is neither 'transmission' nor 'line_integral' and is left aside"
        )
    said += [
        f"{key} {quoted(start[key])} is no finite number and is left aside"
        for key in ("rotation_axis", "pixel_size_nm")
        if start.get(key) is not None and finite(start[key]) is None
    ]
    return said


def _reference(start: Mapping[str, Any], rules: DocumentRules) -> str | None:
    uid = look_up(start, rules.references_from) if rules.references_from else None
    return storable(uid, _MAX_REFERENCE) if isinstance(uid, str) and 0 < len(uid) <= _MAX_REFERENCE else None


def _measurement(start: Mapping[str, Any], rules: DocumentRules) -> Measurement:
    if rules.measurement != "auto":
        return rules.measurement
    return "line_integral" if str(start.get("measurement")) == "line_integral" else "transmission"


def _sample(start: Mapping[str, Any]) -> str | None:
    sample = start.get("sample_name", start.get("sample"))
    if isinstance(sample, Mapping):
        sample = sample.get("name")
    return storable(sample, _MAX_SAMPLE) if isinstance(sample, str) else None
