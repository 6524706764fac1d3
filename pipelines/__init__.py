"""Ray Data graphs. Each stage is a pure function or a small actor class in its own module."""
