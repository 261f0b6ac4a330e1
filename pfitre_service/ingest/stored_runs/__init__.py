"""Stored runs as documents: JSON lines, runs in Tiled and databroker, scan files."""
