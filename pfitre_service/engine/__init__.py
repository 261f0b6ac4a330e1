"""One tomogram, live or stored: projections in, volumes and their quality out."""
