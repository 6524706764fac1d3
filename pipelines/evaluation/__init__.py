"""Generate the clips of a test split by any method, and measure them against the real ones."""
