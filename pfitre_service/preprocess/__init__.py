"""Counts in, line integrals out: flat and dark field, logarithm, bad pixels."""

from pfitre_service.preprocess.line_integrals import LineIntegrals, to_line_integrals
from pfitre_service.preprocess.parameters import PreprocessParameters
from pfitre_service.preprocess.references import References

__all__ = ["LineIntegrals", "PreprocessParameters", "References", "to_line_integrals"]
