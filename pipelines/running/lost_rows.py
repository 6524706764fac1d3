"""Rows that a graph lost: each gets two tries, and what Ray knows of the reason is kept.

A process that dies takes the rows with it that it had at that moment. Ray Data would try them again
and again; the graphs here switch that off (`NO_RETRIES`), leave such rows out
(`tolerate_losses`), and run a second time over what is missing, one row at a time on an actor, so
that a row that kills its process costs no other one.
"""

from __future__ import annotations

import logging
from collections import Counter

from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import OutOfDiskError, RayTaskError

from pipelines.records import one_line
from pipelines.running.ray_errors import reason

TRIES = 2
"""Of a row: among the others, then alone."""
NO_RETRIES = 0
"""`max_retries` of a graph's tasks, `max_task_retries` of its actors: Ray Data has no bound."""
LOGGER = "ray.data._internal.execution.streaming_executor_state"
"""Where Ray Data says what went wrong with a block; it has no other way to ask."""


def pool(actors: int, alone: bool) -> ActorPoolStrategy:
    """Actors of a graph: in the second run each holds one row at a time."""
    return ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1 if alone else None)


def tolerate_losses(context: DataContext) -> None:
    """Have a graph leave out blocks whose process died, and make each row a block of its own."""
    context.max_errored_blocks = -1
    context.target_max_block_size = 1


class LostRows(logging.Handler):
    """Collects, while it is entered, why blocks were left out.

    Attributes:
        reasons: lines, with how often each came.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.reasons: Counter[str] = Counter()
        self.out_of_disk = False

    def __enter__(self) -> LostRows:
        logging.getLogger(LOGGER).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(LOGGER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, Exception):
            return
        self.out_of_disk |= isinstance(error, OutOfDiskError)
        if isinstance(error, RayTaskError):
            self.reasons[reason(error)] += 1
        else:
            self.reasons[f"{type(error).__name__}: {one_line(error)}"] += 1

    def commonest(self) -> str:
        """The commonest one; empty where Ray said nothing."""
        return self.reasons.most_common(1)[0][0] if self.reasons else ""


def died(lost: LostRows) -> str:
    """What is said of a row that was lost each time."""
    why = lost.commonest()
    return (
        f"the process that worked on this clip died each of {TRIES} times"
        f"{f' ({why})' if why else ''}; see Ray's logs, and whether memory ran out"
    )
