"""The data step, total variation and rounds with a network."""
