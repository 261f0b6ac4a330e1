"""From bytes of the network to documents; nothing is executed."""
