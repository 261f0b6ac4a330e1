"""How much of the rings of a real detector is left."""
