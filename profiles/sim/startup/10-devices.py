"""The devices of the simulated beamline: a chip in the beam by default, and other samples."""

from pfitre_service.twin.scans import build_scan

chip = build_scan("chip")
"""A thin slab of metal lines and vias, in transmission, with photon noise: RE(chip.plan())."""

detector, rotation = chip.detector, chip.stage

cu23 = build_scan("cu23")
"""A real fluorescence tomogram, played at its 51 recorded angles: RE(cu23.plan())."""
