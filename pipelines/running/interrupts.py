"""Ctrl-C and SIGTERM end a job in one line, with what is finished kept, and exit code 130 or 143.

Jobs import this module first, so that an interrupt while their libraries load is one line too.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType

from pipelines.running.job_error import JobError

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
KEPT = "what is finished is kept"
FULL_OR_FORBIDDEN = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""What a disk says that takes nothing any more, wherever the job was about to write."""


# A thread that still waits for Ray's workers would start another Ray when this one has ended.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")


class Interrupted(KeyboardInterrupt):
    """A signal that asks the job to end. Libraries treat it as the Ctrl-C that it mostly is.

    Attributes:
        number: of the signal.
        outcome: what became of the work so far; whoever knows more than `KEPT` says it here.
    """

    def __init__(self, number: int) -> None:
        super().__init__(NAMES[signal.Signals(number)])
        self.number = number
        self.outcome = KEPT


def run_job(main: Callable[[], None], resumes: bool = True) -> None:
    """Run a job's `main`; the process ends with 128 plus the signal's number if one comes.

    A second signal, while the first one is heeded, ends the process at once. A `JobError` ends it
    with code 1.

    Args:
        resumes: whether the same command goes on from what is finished.
    """
    listen()
    try:
        main()
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        outcome = error.outcome if isinstance(error, Interrupted) else KEPT
        again = "goes on from there" if resumes else "begins anew"
        _say(f"interrupted by {NAMES[signal.Signals(number)]}: {outcome}; the same command {again}")
        _leave(128 + number)
    except JobError as error:
        _say(f"error: {error}")
        _leave(1)
    except OSError as error:
        if error.errno not in FULL_OR_FORBIDDEN:
            raise
        _say(f"error: {error}; {KEPT}, the same command goes on once there is space and the right")
        _leave(1)


def listen() -> None:
    """Have Ctrl-C and SIGTERM raise `Interrupted` in the main thread."""
    for number in NAMES:
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in NAMES:
        signal.signal(each, _end_at_once)
    raise Interrupted(number)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    _say("interrupted again: ended at once")
    os._exit(128 + number)


def _leave(code: int) -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by way of the exit handlers: Ray's abort the process where a thread still waits for its
    # workers.
    os._exit(code)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Of an interrupt before `run_job`: nothing was begun."""
    if issubclass(kind, KeyboardInterrupt):
        _say("interrupted by Ctrl-C: nothing was begun")
        os._exit(128 + signal.SIGINT)
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _hook
