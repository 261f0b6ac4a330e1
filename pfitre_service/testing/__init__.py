"""Beamlines that only tests play; not to be imported by the package at run time."""
