"""The deployment that sends accepted jobs to the model, and sweeps up what is over.

It holds nothing that the store does not: should it die, its successor goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from ray import serve
from ray.serve.handle import DeploymentHandle

from pipelines.records import one_line
from serve.figures import QueueFigures
from serve.files import JobFiles
from serve.orders import Dispatch
from serve.records import VideoJob
from serve.settings import ServeSettings
from serve.store import JobStore

logger = logging.getLogger("ray.serve")

POLL_S = 0.5
"""How often the store is looked at when nobody wakes the dispatcher."""
RETRY_S = 1
"""How long a job rests that was interrupted: what broke it off may last."""
SWEEP_S = 5
SWEPT_AT_ONCE = 100


Step = Callable[[], Awaitable[None]]


class Dispatcher:
    async def __init__(  # type: ignore[misc] # Serve awaits it
        self, settings: ServeSettings, generator: DeploymentHandle
    ) -> None:
        self._settings = settings
        self._generator = generator
        self._store = JobStore(settings.store, settings.store_password_file)
        self._files = JobFiles(settings.results)
        self._figures = QueueFigures()
        self._sent: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._loops = [
            asyncio.create_task(_for_ever(self._dispatch, self._woken_or_after(POLL_S))),
            asyncio.create_task(_for_ever(self._sweep, lambda: asyncio.sleep(SWEEP_S))),
        ]

    async def check_health(self) -> None:
        if any(loop.done() for loop in self._loops):
            raise RuntimeError("a loop of the dispatcher has ended")

    async def wake(self) -> None:
        """There is something new in the store."""
        self._woken.set()

    def _woken_or_after(self, seconds: float) -> Step:
        async def wait() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), seconds)
            self._woken.clear()

        return wait

    async def _dispatch(self) -> None:
        """Call back jobs that nobody wants, and send as many as the replicas have room for."""
        wanted = await asyncio.to_thread(self._store.wanted, list(self._sent))
        for job_id, task in list(self._sent.items()):
            if job_id not in wanted:
                task.cancel()
        most, over = self._settings.max_attempts, time.time() + self._settings.expire_after_s
        await asyncio.to_thread(self._store.give_up, most, over, list(self._sent))
        room = await asyncio.to_thread(self._replicas) * self._settings.in_flight - len(self._sent)
        if room > 0:
            for job in await asyncio.to_thread(self._store.due, room, list(self._sent), most):
                self._sent[job.id] = asyncio.create_task(self._send(job))
        self._figures.depth(await asyncio.to_thread(self._store.counts))

    async def _send(self, job: VideoJob) -> None:
        """Have a job done; whatever keeps it from being done puts it back."""
        dispatch = Dispatch(job.id, secrets.token_hex(16), job.alike)
        response = None
        try:
            response = self._generator.generate.remote(dispatch)
            await response
        except asyncio.CancelledError:
            if response:
                response.cancel()
            raise
        except Exception as error:  # Ray has many for a replica that is gone
            self._figures.interrupted()
            logger.warning("%s was interrupted: %s", job.id, one_line(error))
            await asyncio.to_thread(self._store.release, dispatch.ticket)
            await asyncio.sleep(RETRY_S)
        finally:
            del self._sent[job.id]
            self._woken.set()

    async def _sweep(self) -> None:
        """Remove what is deleted or expired."""
        over = await asyncio.to_thread(self._store.outlived, SWEPT_AT_ONCE)
        for job_id in over:
            try:
                await asyncio.to_thread(self._files.remove, job_id)
                await asyncio.to_thread(self._store.forget, job_id)
            except Exception as error:  # it is there the next time, and the others need not wait
                logger.warning("%s cannot be removed: %s", job_id, one_line(error))

    def _replicas(self) -> int:
        """Of the model, running now; at least one, so that work brings one up."""
        application = serve.status().applications[serve.get_replica_context().app_name]
        generator = application.deployments.get("Generator")
        if not generator:
            return 0  # the service is being shut down
        states = generator.replica_states
        return max(1, sum(count for state, count in states.items() if state == "RUNNING"))


async def _for_ever(work: Step, wait: Step) -> None:
    while True:
        try:
            await work()
        except Exception as error:
            logger.warning("dispatcher: %s; tried again", one_line(error))
        await wait()
