"""Tomograms of the catalogue, and results of stored scans, as files for other programs and a page for the logbook."""
