"""What processes do in tests in place of decoding a picture; a module that they load at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

GATE = b"wait for "


def own_process(*_: object) -> bytes:
    """Its number."""
    return str(os.getpid()).encode()


def waiting(data: bytes, *_: object) -> bytes:
    """Until the file that is named behind the picture is there, or for a minute."""
    gate = Path(data.partition(GATE)[2].decode())
    deadline = time.monotonic() + 60
    while not gate.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return b"waited"


def dying(*_: object) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def refusing(*_: object) -> bytes:
    raise ValueError("input_reference: the picture is broken")
