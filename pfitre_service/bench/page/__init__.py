"""How fast the page shows what is published, in a real browser."""
