"""Frames that documents point to, read by a thread."""
