"""The deployment that holds the model: its work on the queue, and what is asked of it directly."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

from ray import serve

from handi_model.device import DTYPES, usable_device
from handi_model.hands import HandDetector
from serve.figures import ModelFigures
from serve.files import VARIANTS, JobFiles
from serve.model.detection import keypoints_in
from serve.model.device import Device, in_thread
from serve.model.holding import Held, Watch
from serve.model.rendering import grouped, largest_group, predict_areas
from serve.model.worker import Worker
from serve.orders import MaskOrder
from serve.settings import ServeSettings
from serve.store import JobStore


class Generator:
    async def __init__(self, settings: ServeSettings) -> None:  # type: ignore[misc] # Serve awaits it
        self._settings = settings
        self._store = JobStore(settings.store, settings.store_password_file)
        self._files = JobFiles(settings.results)
        figures = ModelFigures()
        self._device = Device(usable_device(settings.device), settings.stall_s, figures)
        batched: Any = self._predict_all
        batched.set_max_batch_size(settings.batch_size)
        batched.set_batch_wait_timeout_s(settings.batch_wait_s)
        self._pipe = await self._device.run(self._load)
        self._held = Held(self._store, settings.lease_s)
        self._worker = Worker(
            settings, self._store, self._files, self._held, self._device, figures, self._pipe
        )

    async def __del__(self) -> None:
        """Serve calls it before the process ends, and waits for `drain_s`."""
        try:
            self._device.check()
        except RuntimeError:
            return  # there is nothing to wait for: the leases run out
        await self._worker.drain()

    def _load(self) -> Any:
        from pipelines.models import load_pipeline  # seconds, of which only a replica has need

        pipe = load_pipeline(self._settings.model, DTYPES[self._settings.dtype])
        pipe = pipe.to(self._device.where)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    async def check_health(self) -> None:
        """Raise where device or leases are lost, or a step hangs: Serve replaces the replica."""
        self._device.check()
        self._worker.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What `serve.scaling` goes by: nobody sends the jobs, so Serve does not see them."""
        return {"jobs": sum((await in_thread(self._store.counts)).values())}

    async def wake(self) -> None:
        """There is something new in the store."""
        self._worker.wake()

    async def mask(self, order: MaskOrder) -> bytes:
        """The motion area as a PNG."""
        made = await self._predict_all(order)
        if isinstance(made, Exception):
            raise made
        return made

    async def keypoints(self, result: str) -> bytes:
        """The joints in a finished clip, as JSON; kept beside the clip.

        Args:
            result: the folder of the clip, below that of all jobs.

        Raises:
            ModelFileError: if MediaPipe's model file cannot be had.
        """
        name = VARIANTS["keypoints"][0]
        # Before the turn: while a storage is away nobody else need wait for the device.
        video = await in_thread(self._files.read, result, VARIANTS["video"][0])
        async with self._device.turn:
            # Whoever had the turn before may have asked for the same.
            if await in_thread(self._files.has, result, name):
                return await in_thread(self._files.read, result, name)
            found = await self._device.watched(
                Watch(self._held, [], 1), lambda _: keypoints_in(self._detector, video)
            )
            told = found.model_dump_json().encode()
            await in_thread(self._files.write, result, name, told)
        return told

    @serve.batch(batch_size_fn=largest_group, max_concurrent_batches=2)
    async def _predict_all(self, orders: list[MaskOrder]) -> list[bytes | Exception]:
        made: dict[int, bytes | Exception] = {}
        for group in grouped(orders):
            # Between two groups of clips: whoever waits for a motion area waits for one of them.
            async with self._device.turn:
                areas = await self._device.watched(
                    Watch(self._held, [], group[0].mask_steps),
                    partial(predict_areas, self._pipe, group),
                )
            made |= {id(order): area for order, area in zip(group, areas, strict=True)}
        return [made[id(order)] for order in orders]

    @cached_property
    def _detector(self) -> HandDetector:
        return HandDetector.load().to(self._device.where)
