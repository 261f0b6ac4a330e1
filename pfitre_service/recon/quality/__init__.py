"""What was measured, how large the error is expected to be, and whether angles fit the projections."""
