"""The deployment that holds the model: it renders in batches and answers for what it took."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, TypeVar

from ray import serve

from handi_model.device import DTYPES, usable_device
from handi_model.hands import HandDetector
from pipelines.clip_files import encode_gif, encode_mp4, encode_png
from pipelines.models import load_pipeline
from pipelines.patience import patient
from pipelines.records import one_line
from serve.figures import ModelFigures
from serve.files import DRAWN, SCENE, VARIANTS, JobFiles
from serve.holding import Held, Watch
from serve.keypoints import keypoints_in
from serve.orders import Dispatch, MaskOrder
from serve.records import VideoJob
from serve.rendering import (
    Abandoned,
    Clip,
    Item,
    OnStep,
    grouped,
    largest_group,
    predict_areas,
    render,
)
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
        batched: Any
        for batched in (self._render_all, self._predict_all):
            batched.set_max_batch_size(settings.batch_size)
            batched.set_batch_wait_timeout_s(settings.batch_wait_s)
        self._device = usable_device(settings.device)
        self._pipe = await self._on_device(self._load)
        self._beats = asyncio.create_task(self._held.keep())

    def _load(self) -> Any:
        pipe = load_pipeline(self._settings.model, DTYPES[self._settings.dtype]).to(self._device)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    async def check_health(self) -> None:
        """Raise where the device hangs or nobody renews the leases: Serve replaces the replica."""
        watch = self._watch
        if watch and time.monotonic() - watch.last_step > self._settings.stall_s:
            raise RuntimeError(f"no denoising step for {self._settings.stall_s:g} s")
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
        video = await asyncio.to_thread(self._files.read, job_id, VARIANTS["video"][0])
        found = await self._on_device(lambda: keypoints_in(self._detector, video))
        told = found.model_dump_json().encode()
        await asyncio.to_thread(self._files.write, job_id, name, told)
        return told

    @serve.batch(batch_size_fn=largest_group, max_concurrent_batches=2)
    async def _render_all(self, dispatches: list[Dispatch]) -> list[Exception | None]:
        self._running += 1
        self._free.clear()
        outcomes: dict[str, Exception] = {}
        finishing: list[asyncio.Task[None]] = []
        try:
            for group in grouped(dispatches):
                try:
                    finishing += await self._render_group(group)
                except Exception as error:
                    outcomes |= {dispatch.ticket: error for dispatch in group}
        finally:
            self._running -= 1
            if not self._running:
                self._free.set()
        # The next batch has the device by now.
        await asyncio.gather(*finishing)
        return [outcomes.get(dispatch.ticket) for dispatch in dispatches]

    async def _render_group(self, group: list[Dispatch]) -> list[asyncio.Task[None]]:
        """Claim and render jobs that are alike; gives the tasks that write what came out."""
        async with self._turn:
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
                    return []
                raise
        return [asyncio.create_task(self._finish(job, result)) for job, result in results]

    async def _results(self, jobs: list[VideoJob]) -> list[tuple[VideoJob, Clip | Exception]]:
        """Clips of jobs that are alike and held, or why there is none."""
        read = await asyncio.gather(*(asyncio.to_thread(self._read, job) for job in jobs))
        items = [one for one in read if isinstance(one, Item)]
        clips: Iterator[Clip | Exception] = iter(())
        if items:
            first = items[0].job
            steps = (first.mask_steps or 0) + first.num_inference_steps
            watch = Watch(self._held, [item.job.ticket or "" for item in items], steps)
            clips = iter(await self._watched(watch, partial(render, self._pipe, items)))
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

    def _read(self, job: VideoJob) -> Item | Exception:
        """A job's pictures; a storage that is away is waited for, and then puts the job back."""
        read = patient(self._files.read)
        try:
            scene = read(job.id, SCENE)
            return Item(job, scene, None if job.mask_steps else read(job.id, DRAWN))
        except FileNotFoundError:
            return RuntimeError("the picture that it starts from is gone; send it again")

    async def _finish(self, job: VideoJob, clip: Clip | Exception) -> None:
        began = time.monotonic()
        expires_at = time.time() + self._settings.expire_after_s
        ticket = job.ticket or ""
        try:
            if isinstance(clip, Exception):
                code = "invalid_request" if isinstance(clip, ValueError) else "generation_failed"
                await asyncio.to_thread(
                    patient_store(self._store.fail), ticket, code, one_line(clip), expires_at
                )
                self._figures.ended("failed", time.time() - job.created_at)
                logger.warning("%s failed: %s", job.id, clip)
            elif await asyncio.to_thread(self._keep, job, clip, expires_at):
                self._figures.ended("completed", time.time() - job.created_at)
            self._figures.stage("write", time.monotonic() - began)
        finally:
            self._held.drop(ticket)

    def _keep(self, job: VideoJob, clip: Clip, expires_at: float) -> bool:
        """Write a clip and end its job; False if it is not this replica's any more."""
        written = {
            "video": encode_mp4(clip.frames, job.fps),
            "gif": encode_gif(clip.frames, job.fps),
            "mask": encode_png(clip.area),
        }
        for variant, data in written.items():
            patient(self._files.write)(job.id, VARIANTS[variant][0], data)
        if patient_store(self._store.complete)(job.ticket or "", expires_at):
            return True
        if not self._store.get(job.id, job.owner):
            self._files.remove(job.id)  # deleted meanwhile, and its files perhaps before these
        return False

    async def _on_device(self, work: Callable[[], Made]) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._device_thread, work)

    @cached_property
    def _detector(self) -> HandDetector:
        return HandDetector.load().to(self._device)
