"""What an engine is told besides the data."""

from __future__ import annotations

from dataclasses import dataclass, field

from pfitre_service.config import PriorSettings
from pfitre_service.model import Measurement
from pfitre_service.preprocess import PreprocessParameters
from pfitre_service.recon.parameters import AdmmParameters, CalibrationParameters


@dataclass(frozen=True)
class EngineParameters:
    """Of one tomogram."""

    measurement: Measurement = "line_integral"
    heldout_every: int = 8
    """Every so-manieth projection is held out; 0 holds none out."""
    device: str = "auto"
    preprocess: PreprocessParameters = field(default_factory=PreprocessParameters)
    recon: AdmmParameters = field(default_factory=AdmmParameters)
    prior: PriorSettings = field(default_factory=PriorSettings)
    calibration: CalibrationParameters = field(default_factory=CalibrationParameters)
    measurement_said: bool = True
    """Whether a person or a document said what images hold; what was taken for granted is refused where the values
    contradict it."""
