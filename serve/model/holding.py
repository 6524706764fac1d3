"""The jobs that a replica holds: while it lives their leases are renewed, their progress told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from handi_model.config import Stage
from serve.model.rendering import Abandoned
from serve.store import JobStore

logger = logging.getLogger("ray.serve")

BEATS_A_LEASE = 20


class Held:
    """Tickets of the jobs that this replica works on, and how far each is, percent."""

    def __init__(self, store: JobStore, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        # A thread of its own: those of `asyncio.to_thread` are few in a replica, and may all wait
        # for a storage that is away while the leases run out.
        self._thread = ThreadPoolExecutor(1, "beats")
        self._progress: dict[str, int] = {}
        self._void: set[str] = set()

    def take(self, tickets: Iterable[str]) -> None:
        self._progress.update(dict.fromkeys(tickets, 0))

    def drop(self, ticket: str) -> None:
        self._progress.pop(ticket, None)
        self._void.discard(ticket)

    def report(self, tickets: Iterable[str], percent: int) -> None:
        for ticket in tickets:
            if ticket in self._progress:  # not one that was dropped while a step went on
                self._progress[ticket] = percent

    def all_void(self, tickets: Iterable[str]) -> bool:
        """Whether every one of these jobs was deleted, or given to somebody else."""
        return self._void.issuperset(tickets)

    async def beat(self) -> None:
        """Once: renew and report all, and learn which tickets are void."""
        void = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._store.beat, dict(self._progress), self._lease_s
        )
        self._void |= void & set(self._progress)

    async def keep(self) -> None:
        """For ever; a store that is away is asked again, and what it misses are only reports."""
        while True:
            await asyncio.sleep(self._lease_s / BEATS_A_LEASE)
            if not self._progress:
                continue  # an idle replica leaves the store alone
            try:
                await self.beat()
            except Exception as error:
                logger.warning("the job store does not answer: %s", error)


class Watch:
    """Follows a batch step by step.

    Attributes:
        seconds: spent by stage; what is done before a stage's first step counts to it.
        last_step: when the last one ended, of the monotonic clock.
    """

    def __init__(self, held: Held, tickets: list[str], steps: int) -> None:
        self._held, self._tickets, self._steps = held, tickets, steps
        self.seconds: dict[Stage, float] = {}
        self.last_step = time.monotonic()

    def __call__(self, stage: Stage, done: int) -> None:
        """A step is done; raises Abandoned where nobody wants the batch any more."""
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last_step
        self.last_step = now
        self._held.report(self._tickets, min(99, 100 * done // self._steps))
        if self._tickets and self._held.all_void(self._tickets):
            raise Abandoned
