"""Tiled over plain HTTP."""
