"""Stored data: reconstruct a file, write results, replay, doctor."""
