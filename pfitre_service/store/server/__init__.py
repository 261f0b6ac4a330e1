"""The embedded Tiled server, its data folder and the door before it."""
