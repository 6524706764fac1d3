"""A replica's way through the queue: it takes jobs when it can start them, and ends each.

Nobody sends them: a replica that is silent, or busy, keeps no job from another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pipelines.clip_files import encode_gif, encode_mp4, encode_png
from pipelines.patience import patient
from pipelines.records import one_line
from serve.figures import ModelFigures
from serve.files import DRAWN, SCENE, VARIANTS, JobFiles
from serve.model.device import Device, in_thread
from serve.model.holding import Held, Watch
from serve.model.rendering import Abandoned, Clip, Item, PictureGone, grouped, reason, render
from serve.records import VideoJob
from serve.settings import ServeSettings
from serve.store import JobStore, patient_store

logger = logging.getLogger("ray.serve")

POLL_S, LONGEST_POLL_S = 0.5, 2
"""How often an idle replica looks for jobs when nobody wakes it, at first and when none come."""
REST_S = 1
"""How long a job rests that was interrupted: what broke it off may last."""

Ending = set[asyncio.Task[None]]
"""The tasks that write the clips of a batch and end its jobs."""


class Worker:
    def __init__(
        self,
        settings: ServeSettings,
        store: JobStore,
        files: JobFiles,
        held: Held,
        device: Device,
        figures: ModelFigures,
        pipe: Any,
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._device = device
        self._figures = figures
        self._pipe = pipe
        self._held = held
        self._woken = asyncio.Event()
        self._draining = False
        self._loops = [asyncio.create_task(self._held.keep()), asyncio.create_task(self._work())]

    def wake(self) -> None:
        """There is something new in the store."""
        self._woken.set()

    def check(self) -> None:
        """Raise where the leases are not renewed, or no jobs are taken any more."""
        if any(loop.done() for loop in self._loops):
            raise RuntimeError("a loop of the replica has ended")

    async def drain(self) -> None:
        """Take no job any more, and return once those that it has are ended."""
        self._draining = True
        self.wake()
        await self._loops[-1]

    async def _work(self) -> None:
        ending: Ending = set()
        while not self._draining and not self._device.lost:
            try:
                await self._some_wait()
                latest = await self._render_next()
            except Exception as error:
                logger.warning("no jobs can be taken: %s", one_line(error))
                await asyncio.sleep(POLL_S)
                continue
            # While one batch is rendered the last one is written; a third would fill the memory.
            await _all(ending)
            ending = latest
        await _all(ending)

    async def _some_wait(self) -> None:
        """Return once jobs wait, or the replica drains; an idle one waits for a fuller batch."""
        idle, pause = False, POLL_S
        while not self._draining and not await self._next():
            idle = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)
            self._woken.clear()
            pause = min(2 * pause, LONGEST_POLL_S)
        if idle:
            await asyncio.sleep(self._settings.batch_wait_s)

    async def _next(self) -> list[VideoJob]:
        """The due job whose turn it is, and others that can be denoised with it."""
        size = self._settings.batch_size
        due = await in_thread(self._store.due, 4 * size, self._settings.max_attempts)
        return grouped(due)[0][:size] if due else []

    async def _render_next(self) -> Ending:
        """Claim the jobs whose turn it is, and render them."""
        async with self._device.turn:
            if self._draining or self._device.lost:
                return set()
            tickets = {job.id: secrets.token_hex(16) for job in await self._next()}
            jobs = await in_thread(self._store.claim, tickets, self._settings.lease_s)
            began = time.monotonic()
            self._held.take(job.ticket or "" for job in jobs)
            try:
                results = await self._results(jobs)
            except Exception as error:
                for job in jobs:
                    self._held.drop(job.ticket or "")
                if not isinstance(error, Abandoned):
                    await self._put_back(jobs, error)
                return set()
        return {asyncio.create_task(self._end(job, made, began)) for job, made in results}

    async def _results(self, jobs: list[VideoJob]) -> list[tuple[VideoJob, Clip | Exception]]:
        """Clips of jobs that are alike and held, or why there is none."""
        read = await asyncio.gather(*(in_thread(self._read, job) for job in jobs))
        items = [one for one in read if isinstance(one, Item)]
        clips: Iterator[Clip | Exception] = iter(())
        if items:
            first = items[0].job
            before = (first.mask_steps or 0) if self._pipe.config.uses_mask else 0
            steps = before + first.num_inference_steps
            watch = Watch(self._held, [item.job.ticket or "" for item in items], steps)
            rendered = await self._device.watched(watch, partial(render, self._pipe, items))
            if any(isinstance(one, Exception) for one in rendered):
                await self._device.test()
            clips = iter(rendered)
            self._figures.batch(len(items))
        return [
            (job, one if isinstance(one, Exception) else next(clips))
            for job, one in zip(jobs, read, strict=True)
        ]

    def _read(self, job: VideoJob) -> Item | Exception:
        """A job's pictures; a storage that is away is waited for, and then puts the job back."""
        read = patient(self._files.read)
        try:
            scene = read(job.id, SCENE)
            return Item(job, scene, None if job.mask_steps else read(job.id, DRAWN))
        except FileNotFoundError:
            return PictureGone()

    async def _end(self, job: VideoJob, made: Clip | Exception, claimed: float) -> None:
        """Write a clip and end its job; whatever keeps it from that puts the job back."""
        began = time.monotonic()
        try:
            if self._held.all_void([job.ticket or ""]):
                return  # deleted while others of its batch went on
            files = await self._encoded(job, made)
            if isinstance(files, Exception):
                outcome = "failed"
                ended = await in_thread(self._fail, job, files)
            else:
                outcome = "completed"
                ended = await in_thread(self._keep, job, files)
            if ended:
                # Of the database's clock as far as the claim, for it began on another machine.
                waited = (job.lease_until - self._settings.lease_s) - job.created_at
                self._figures.ended(outcome, waited + time.monotonic() - claimed)
            self._figures.stage("write", time.monotonic() - began)
        except Exception as error:
            await self._put_back([job], error)
        finally:
            self._held.drop(job.ticket or "")

    async def _encoded(self, job: VideoJob, made: Clip | Exception) -> dict[str, bytes] | Exception:
        """The files of a clip by name, or why there are none."""
        if isinstance(made, Exception):
            return made
        try:
            return await in_thread(encoded, made, job.fps)
        except Exception as error:
            return error

    def _fail(self, job: VideoJob, error: Exception) -> bool:
        """End a job badly; False if it is not this replica's any more."""
        logger.warning("%s failed: %s", job.id, error, exc_info=error)
        fail = patient_store(self._store.fail)
        return fail(job.ticket or "", *reason(job, error), self._settings.expire_after_s)

    def _keep(self, job: VideoJob, files: dict[str, bytes]) -> bool:
        """Write a clip and end its job; False if it is not this replica's any more."""
        for name, data in files.items():
            patient(self._files.write)(job.result, name, data)
        complete = patient_store(self._store.complete)
        if complete(job.ticket or "", self._settings.expire_after_s):
            return True
        found = self._store.get(job.id, job.owner)
        if found and found.status == "completed" and found.ticket == job.ticket:
            return True  # the store's reply to an earlier try was lost
        # Another's by now; or deleted, and its other files perhaps removed before these came.
        self._files.remove(job.result if found else job.id)
        return False

    async def _put_back(self, jobs: Sequence[VideoJob], error: Exception) -> None:
        for job in jobs:
            logger.warning("%s was interrupted: %s", job.id, one_line(error))
            self._figures.interrupted()
            # Where the store is away, the lease runs out.
            with contextlib.suppress(Exception):
                await in_thread(self._store.release, job.ticket or "", REST_S)


async def _all(tasks: Ending) -> None:
    if tasks:
        await asyncio.wait(tasks)


def encoded(clip: Clip, fps: float) -> dict[str, bytes]:
    """The files of a clip by name."""
    made = {
        "video": encode_mp4(clip.frames, fps),
        "gif": encode_gif(clip.frames, fps),
        "mask": encode_png(clip.area),
    }
    return {VARIANTS[variant][0]: data for variant, data in made.items()}
