"""Projector, back-projector, normal equations."""
