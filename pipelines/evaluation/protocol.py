"""Which protocol the figures follow: protocol.md beside this module says it in words."""

from __future__ import annotations

from importlib.resources import files

PROTOCOL = "3"
"""Version of protocol.md: figures of one version compare."""


def protocol_text() -> str:
    """protocol.md as it is."""
    return files("pipelines.evaluation").joinpath("protocol.md").read_text(encoding="utf-8")
