"""Tomograms as files for other programs, and a page for the logbook. Knows nothing of where tomograms are stored."""
