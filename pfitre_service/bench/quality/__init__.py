"""How good volumes are, against other methods, on simulated and on real scans."""
