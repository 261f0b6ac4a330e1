"""Processes: started, watched, started again, and how they say how they are."""
