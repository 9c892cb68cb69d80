"""What the loops remember between ticks, and of each other."""
