"""What Ray's exceptions say of a worker's own error, in one line."""

from __future__ import annotations

import re

RAISED = re.compile(r"[\w.]*([Ee]rror|Exception)(: |$)")
"""The line of a traceback that names the error."""


def reason(error: BaseException) -> str:
    """One line: of a worker's own error its type and message, of its death what Ray knows."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Ray hands the worker's traceback on as text, with advice of its own before and after.
    raised = [line for line in lines if RAISED.match(line) and "UserCodeException" not in line]
    return raised[-1] if raised else lines[0]
