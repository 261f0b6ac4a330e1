"""`pfitre demo`: a scan from beginning to end on this machine."""
