"""Stored scans: NXtomo, Data Exchange, TIFF."""
