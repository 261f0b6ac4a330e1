"""The plans of the simulated beamline."""

from pfitre_service.twin.plans import tomo_scan, wedge_angles

__all__ = ["tomo_scan", "wedge_angles"]
