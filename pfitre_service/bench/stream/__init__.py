"""How many frames a second the whole service takes in."""
