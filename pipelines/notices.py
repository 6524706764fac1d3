"""Lines for the person who waits: on standard error, or where the process's owner takes them."""

from __future__ import annotations

import sys
from collections.abc import Callable


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_take: Callable[[str], None] = _to_stderr


def notice(line: str) -> None:
    """Show a line."""
    _take(line)


def take_notices(take: Callable[[str], None]) -> None:
    """Let a worker, whose standard error nobody sees, hand its lines on."""
    global _take
    _take = take
