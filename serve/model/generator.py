"""The deployment that holds the model: it renders in batches and answers for what it took."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from ray import serve

from handi_model.device import DTYPES, usable_device
from handi_model.hands import HandDetector
from pipelines.clip_files import encode_gif, encode_mp4, encode_png
from pipelines.patience import patient
from serve.figures import ModelFigures
from serve.files import DRAWN, SCENE, VARIANTS, JobFiles
from serve.model.detection import keypoints_in
from serve.model.holding import Held, Watch
from serve.model.rendering import (
    Abandoned,
    Clip,
    Item,
    OnStep,
    PictureGone,
    grouped,
    largest_group,
    predict_areas,
    reason,
    render,
)
from serve.orders import Dispatch, MaskOrder
from serve.records import VideoJob
from serve.settings import ServeSettings
from serve.store import JobStore, patient_store

logger = logging.getLogger("ray.serve")
Made = TypeVar("Made")


class Generator:
    async def __init__(self, settings: ServeSettings) -> None:  # type: ignore[misc] # Serve awaits it
        self._settings = settings
        self._store = JobStore(settings.store)
        self._files = JobFiles(settings.results)
        self._figures = ModelFigures()
        self._held = Held(self._store, settings.lease_s)
        # One thread has the device: batches, motion areas and detections take turns.
        self._device_thread = ThreadPoolExecutor(1, "device")
        self._turn = asyncio.Lock()
        # While a batch runs, what comes in waits and is then batched together: `serve.batch` itself
        # would cut it into batches of whatever comes within the wait.
        self._running = 0
        self._free = asyncio.Event()
        self._free.set()
        self._watch: Watch | None = None
        self._broken = False
        batched: Any
        for batched in (self._render_all, self._predict_all):
            batched.set_max_batch_size(settings.batch_size)
            batched.set_batch_wait_timeout_s(settings.batch_wait_s)
        self._device = usable_device(settings.device)
        self._pipe = await self._on_device(self._load)
        self._beats = asyncio.create_task(self._held.keep())

    def _load(self) -> Any:
        from pipelines.models import load_pipeline  # seconds, of which only a replica has need

        pipe = load_pipeline(self._settings.model, DTYPES[self._settings.dtype]).to(self._device)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    async def check_health(self) -> None:
        """Raise where device or leases are lost, or a step hangs: Serve replaces the replica."""
        watch = self._watch
        if watch and time.monotonic() - watch.last_step > self._settings.stall_s:
            raise RuntimeError(f"no denoising step for {self._settings.stall_s:g} s")
        if self._broken:
            raise RuntimeError("the device does not compute any more")
        if self._beats.done():
            raise RuntimeError("the leases are not renewed any more")

    async def generate(self, dispatch: Dispatch) -> None:
        """Do a job, unless it is deleted or somebody else's by the time that its turn comes.

        Raises:
            Exception: if it could be neither finished nor failed, and must be sent again.
        """
        await self._free.wait()
        error = await self._render_all(dispatch)
        if error:
            raise error

    async def mask(self, order: MaskOrder) -> bytes:
        """The motion area as a PNG."""
        made = await self._predict_all(order)
        if isinstance(made, Exception):
            raise made
        return made

    async def keypoints(self, job_id: str) -> bytes:
        """The joints in a finished clip, as JSON; kept beside the clip.

        Raises:
            ModelFileError: if MediaPipe's model file cannot be had.
        """
        name = VARIANTS["keypoints"][0]
        async with self._turn:
            # Whoever had the turn before may have asked for the same.
            if await asyncio.to_thread(self._files.has, job_id, name):
                return await asyncio.to_thread(self._files.read, job_id, name)
            video = await asyncio.to_thread(self._files.read, job_id, VARIANTS["video"][0])
            found = await self._on_device(lambda: keypoints_in(self._detector, video))
            told = found.model_dump_json().encode()
            await asyncio.to_thread(self._files.write, job_id, name, told)
        return told

    @serve.batch(batch_size_fn=largest_group, max_concurrent_batches=2)
    async def _render_all(self, dispatches: list[Dispatch]) -> list[BaseException | None]:
        self._running += 1
        self._free.clear()
        outcomes: dict[str, BaseException | None] = {}
        finishing: dict[str, asyncio.Task[None]] = {}
        try:
            for group in grouped(dispatches):
                try:
                    finishing |= await self._render_group(group)
                except Exception as error:
                    outcomes |= {dispatch.ticket: error for dispatch in group}
        finally:
            self._running -= 1
            if not self._running:
                self._free.set()
        # The next batch has the device by now.
        ended = await asyncio.gather(*finishing.values(), return_exceptions=True)
        outcomes |= dict(zip(finishing, ended, strict=True))
        return [outcomes.get(dispatch.ticket) for dispatch in dispatches]

    async def _render_group(self, group: list[Dispatch]) -> dict[str, asyncio.Task[None]]:
        """Claim and render jobs that are alike; gives by ticket the tasks that write the clips."""
        async with self._turn:
            if self._broken:
                raise RuntimeError("the device does not compute any more")
            tickets = {dispatch.job_id: dispatch.ticket for dispatch in group}
            jobs = await asyncio.to_thread(self._store.claim, tickets, self._settings.lease_s)
            held = [job.ticket or "" for job in jobs]
            self._held.take(held)
            try:
                results = await self._results(jobs)
            except BaseException as error:
                for ticket in held:
                    self._held.drop(ticket)
                if isinstance(error, Abandoned):
                    return {}
                raise
        return {
            job.ticket or "": asyncio.create_task(self._finish(job, result))
            for job, result in results
        }

    async def _results(self, jobs: list[VideoJob]) -> list[tuple[VideoJob, Clip | Exception]]:
        """Clips of jobs that are alike and held, or why there is none."""
        read = await asyncio.gather(*(asyncio.to_thread(self._read, job) for job in jobs))
        items = [one for one in read if isinstance(one, Item)]
        clips: Iterator[Clip | Exception] = iter(())
        if items:
            first = items[0].job
            steps = (first.mask_steps or 0) + first.num_inference_steps
            watch = Watch(self._held, [item.job.ticket or "" for item in items], steps)
            rendered = await self._watched(watch, partial(render, self._pipe, items))
            if any(isinstance(one, Exception) for one in rendered):
                await self._on_device(self._check_device)
            clips = iter(rendered)
            self._figures.batch(len(items))
        return [
            (job, one if isinstance(one, Exception) else next(clips))
            for job, one in zip(jobs, read, strict=True)
        ]

    @serve.batch(batch_size_fn=largest_group, max_concurrent_batches=2)
    async def _predict_all(self, orders: list[MaskOrder]) -> list[bytes | Exception]:
        made: dict[int, bytes | Exception] = {}
        for group in grouped(orders):
            # Between two groups of clips: whoever waits for a motion area waits for one of them.
            async with self._turn:
                areas = await self._watched(
                    Watch(self._held, [], group[0].mask_steps),
                    partial(predict_areas, self._pipe, group),
                )
            made |= {id(order): area for order, area in zip(group, areas, strict=True)}
        return [made[id(order)] for order in orders]

    async def _watched(self, watch: Watch, work: Callable[[OnStep], Made]) -> Made:
        self._watch = watch
        try:
            return await self._on_device(lambda: work(watch))
        finally:
            self._watch = None
            for stage, seconds in watch.seconds.items():
                self._figures.stage(stage, seconds)

    def _check_device(self) -> None:
        """Raise where it was not the job's fault: a lost device would fail the whole queue."""
        try:
            torch.zeros(1, device=self._device).add(1).item()
        except Exception:
            self._broken = True
            raise

    def _read(self, job: VideoJob) -> Item | Exception:
        """A job's pictures; a storage that is away is waited for, and then puts the job back."""
        read = patient(self._files.read)
        try:
            scene = read(job.id, SCENE)
            return Item(job, scene, None if job.mask_steps else read(job.id, DRAWN))
        except FileNotFoundError:
            return PictureGone()

    async def _finish(self, job: VideoJob, result: Clip | Exception) -> None:
        began = time.monotonic()
        try:
            if not isinstance(result, Exception):
                try:
                    files = await asyncio.to_thread(_encoded, job, result)
                except Exception as error:
                    result = error
            if isinstance(result, Exception):
                await asyncio.to_thread(self._fail, job, result)
            else:
                await asyncio.to_thread(self._keep, job, files)
            self._figures.stage("write", time.monotonic() - began)
        finally:
            self._held.drop(job.ticket or "")

    def _fail(self, job: VideoJob, error: Exception) -> None:
        """End a job badly, unless it is not this replica's any more."""
        logger.warning("%s failed: %s", job.id, error, exc_info=error)
        fail = patient_store(self._store.fail)
        if fail(job.ticket or "", *reason(job, error), self._expires_at()):
            self._figures.ended("failed", time.time() - job.created_at)

    def _keep(self, job: VideoJob, files: dict[str, bytes]) -> None:
        """Write a clip and end its job, unless it is not this replica's any more."""
        for name, data in files.items():
            patient(self._files.write)(job.id, name, data)
        if patient_store(self._store.complete)(job.ticket or "", self._expires_at()):
            self._figures.ended("completed", time.time() - job.created_at)
        elif not self._store.get(job.id, job.owner):
            self._files.remove(job.id)  # deleted meanwhile, and its files perhaps before these

    def _expires_at(self) -> float:
        return time.time() + self._settings.expire_after_s

    async def _on_device(self, work: Callable[[], Made]) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._device_thread, work)

    @cached_property
    def _detector(self) -> HandDetector:
        return HandDetector.load().to(self._device)


def _encoded(job: VideoJob, clip: Clip) -> dict[str, bytes]:
    """The files of a clip by name."""
    made = {
        "video": encode_mp4(clip.frames, job.fps),
        "gif": encode_gif(clip.frames, job.fps),
        "mask": encode_png(clip.area),
    }
    return {VARIANTS[variant][0]: data for variant, data in made.items()}
