"""The process that reconstructs: its rounds, one session a tomogram, the publisher."""
