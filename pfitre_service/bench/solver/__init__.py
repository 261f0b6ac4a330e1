"""Time of the solver against published implementations and the floor of this machine."""
