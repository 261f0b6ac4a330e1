"""The page that people watch: static files beside Tiled's own addresses, and nothing from anywhere else."""
