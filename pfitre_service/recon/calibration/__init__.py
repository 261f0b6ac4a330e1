"""Rotation axis and drift, from the projections alone."""
