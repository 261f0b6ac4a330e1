"""Counts in, line integrals out: the chain of `to_line_integrals`."""

from pfitre_service.preprocess.line_integrals import LineIntegrals, to_line_integrals
from pfitre_service.preprocess.parameters import PreprocessParameters
from pfitre_service.preprocess.references import References
from pfitre_service.preprocess.region import region_geometry
from pfitre_service.preprocess.stripes import StripeSearch

__all__ = [
    "LineIntegrals",
    "PreprocessParameters",
    "References",
    "StripeSearch",
    "region_geometry",
    "to_line_integrals",
]
