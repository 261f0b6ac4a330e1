"""The digital twin: samples, projections, detectors, and scans of them that a real RunEngine runs."""
