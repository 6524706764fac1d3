"""The deployment that sweeps up what is over, and tells how long the queue is.

No job waits for it: it holds nothing that the store does not, and while it is away jobs are done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from pipelines.records import one_line
from serve.figures import QueueFigures
from serve.files import JobFiles
from serve.settings import ServeSettings
from serve.store import JobStore

logger = logging.getLogger("ray.serve")

SWEEP_S = 5
SWEPT_AT_ONCE = 100


class Sweeper:
    async def __init__(self, settings: ServeSettings) -> None:  # type: ignore[misc] # Serve awaits it
        self._settings = settings
        self._store = JobStore(settings.store, settings.store_password_file)
        self._files = JobFiles(settings.results)
        self._figures = QueueFigures()
        self._woken = asyncio.Event()
        self._loop = asyncio.create_task(self._for_ever())

    async def check_health(self) -> None:
        if self._loop.done():
            raise RuntimeError("the sweeper's loop has ended")

    async def wake(self) -> None:
        """There is something new in the store."""
        self._woken.set()

    async def _for_ever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._sweep)
            except Exception as error:
                logger.warning("sweeper: %s; tried again", one_line(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), SWEEP_S)
            self._woken.clear()

    def _sweep(self) -> None:
        sweep(self._settings, self._store, self._files)
        self._figures.depth(self._store.counts())


def sweep(settings: ServeSettings, store: JobStore, files: JobFiles) -> None:
    """Give up jobs that were started too often, and remove what is deleted or expired."""
    store.give_up(settings.max_attempts, settings.expire_after_s)
    for job_id in store.outlived(SWEPT_AT_ONCE):
        try:
            files.remove(job_id)
            store.forget(job_id)
        except Exception as error:  # it is there the next time, and the others need not wait
            logger.warning("%s cannot be removed: %s", job_id, one_line(error))
