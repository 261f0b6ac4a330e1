"""Training the prior on the digital twin."""
