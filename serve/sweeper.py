"""Sweeping up what is over: each gateway does it, in a thread beside its requests.

No job waits for it. Every step is one conditional statement or may be done twice, so that any
number of gateways may sweep at once.
"""

from __future__ import annotations

import logging
import random
import threading

from pipelines.records import one_line
from serve.files import JobFiles
from serve.settings import ServeSettings
from serve.store import JobStore

logger = logging.getLogger("ray.serve")

SWEEP_S = 10
SWEPT_AT_ONCE = 100


class Sweeper:
    """Sweeps every few seconds, and when it is woken, for as long as the process lives."""

    def __init__(self, settings: ServeSettings, store: JobStore, files: JobFiles) -> None:
        self._settings, self._store, self._files = settings, store, files
        self._woken = threading.Event()
        # A thread of its own: a hundred slow removals take none of those that requests need.
        self._thread = threading.Thread(target=self._for_ever, name="sweeper", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was deleted."""
        self._woken.set()

    def check(self) -> None:
        """Raise where nothing is swept any more."""
        if not self._thread.is_alive():
            raise RuntimeError("the sweeper has ended")

    def _for_ever(self) -> None:
        while True:
            try:
                sweep(self._settings, self._store, self._files)
            except Exception as error:
                logger.warning("sweeper: %s; tried again", one_line(error))
            # Gateways that were started together do not stay together.
            self._woken.wait(SWEEP_S * random.uniform(0.5, 1.5))
            self._woken.clear()


def sweep(settings: ServeSettings, store: JobStore, files: JobFiles) -> None:
    """Give up jobs that were started too often, and remove what is deleted or expired."""
    store.give_up(settings.max_attempts, settings.expire_after_s)
    for job_id in store.outlived(SWEPT_AT_ONCE):
        try:
            files.remove(job_id)
            store.forget(job_id)
        except Exception as error:  # it is there the next time, and the others need not wait
            logger.warning("%s cannot be removed: %s", job_id, one_line(error))
