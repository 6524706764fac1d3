"""Entrypoints: parse a typed config, call a pipeline, report."""
