"""What a generated clip is measured by, one idea a module."""
