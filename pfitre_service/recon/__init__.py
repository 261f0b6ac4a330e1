"""The solver: additive normal equations, conjugate gradient, incremental ADMM. Knows numpy and torch alone."""
