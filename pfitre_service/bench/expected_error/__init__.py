"""How well the expected error and what inference has cost hold on the digital twin."""
