"""The service: its overhead, the gain of batches, and a load during which replicas are killed."""

from __future__ import annotations

import asyncio
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from handi_model.config import DType
from handi_model.device import DTYPES, usable_device
from jobs.benchmarks.load import Milestone, Outcome, run_load
from jobs.benchmarks.measuring import machine, short
from jobs.benchmarks.service import Service
from pipelines.clip_files import eight_bit, encode_mp4
from pipelines.models import open_pipeline
from pipelines.rendered.scenes import SCENES, first_frame

PROMPT = SCENES["lift_box_1"]
FPS = 8.0
SHARES = ((1.0, 1.0), (0.75, 0.75), (1.0, 0.75))
"""Height and width of the mixed sizes, of the model's own."""
KILLS = (0.15, 0.5)
"""Shares of finished jobs at which a replica is killed."""
LONGEST_START_S = 120


class Settings(BaseModel):
    """The service against the bare pipeline, batches against single clips, faults under load."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field("tiny", description="Preset, or URL of a saved pipeline.")
    device: str | None = Field(None, description="Torch device; a GPU where there is one.")
    dtype: DType = Field("float32", description="Type of the weights.")
    steps: int = Field(4, ge=1, description="Denoising steps of each stage.")
    guidance_scale: float = Field(1.0, ge=1, description="Classifier-free guidance, from 1 (none).")
    calls: int = Field(10, ge=1, description="Calls of the pipeline and of the service, in turn.")
    clips: int = Field(48, ge=1, description="Clips of the comparison of batch sizes.")
    batch_size: int = Field(8, ge=2, description="Compared with batches of 1.")
    jobs: int = Field(200, ge=1, description="Jobs of the load, in mixed sizes.")
    replicas: int = Field(2, ge=1, description="Replicas of the model under the load.")
    num_cpus: float = Field(0.5, gt=0, description="CPU cores that a replica asks Ray for.")
    result: str | None = Field(None, description="JSON file to write the figures to.")


def measure(settings: Settings) -> dict[str, Any]:
    """Measure all three.

    Raises:
        ValueError: if model or device are not there.
    """
    device = usable_device(settings.device)
    # As many threads as Ray gives a replica, so that both sides compute alike.
    torch.set_num_threads(max(1, int(settings.num_cpus)))
    with tempfile.TemporaryDirectory() as scratch:
        pipe = open_pipeline(settings.model).to(device=device, dtype=DTYPES[settings.dtype])
        pipe.set_progress_bar_config(disable=True)
        folder = Path(scratch)
        pipe.save_pretrained(folder / "model")
        bench = _Bench(settings, folder, pipe.resolution)
        overhead, single = bench.one_replica(pipe)
        together = bench.batches(settings.batch_size)
        rows = [
            *overhead,
            bench.row("batches of 1", single),
            {
                **bench.row(f"batches of {settings.batch_size} at most", together),
                "gain": short(single.seconds / together.seconds),
            },
        ]
        load = bench.load()
    rows.append(bench.row(f"mixed sizes, {settings.replicas} replicas, {len(KILLS)} kills", load))
    return {
        **machine(device),
        "rows": rows,
        "started_again": sum(job["attempts"] > 1 for job in load.jobs.values()),
    }


class _Bench:
    """What the measurements share."""

    def __init__(self, settings: Settings, folder: Path, side: int) -> None:
        self.settings = settings
        self.folder = folder
        self.side = side
        self.scene = first_frame("lift_box_1")

    def one_replica(self, pipe: Any) -> tuple[list[dict[str, Any]], Outcome]:
        """Rows of pipeline and service, in turn, and the clips with batches of 1."""
        with self.service("single", batch_size=1) as service:
            bare, served = [], []
            for seed in range(self.settings.calls + 1):
                bare.append(_seconds(partial(self._bare, pipe, seed)))
                served.append(_seconds(partial(self._served, service, seed)))
            # The first of each warms up.
            plain, sync = (statistics.median(times[1:]) for times in (bare, served))
            rows = [
                {"what": "pipeline call and MP4", "seconds_a_clip": short(plain)},
                {
                    "what": "POST /v1/videos/sync",
                    "seconds_a_clip": short(sync),
                    "overhead_s": short(sync - plain),
                },
            ]
            return rows, asyncio.run(run_load(service.url, self.forms(1), self.scene))

    def batches(self, batch_size: int) -> Outcome:
        with self.service("batches", batch_size=batch_size) as service:
            self._served(service, 0)
            return asyncio.run(run_load(service.url, self.forms(1), self.scene))

    def load(self) -> Outcome:
        """Mixed sizes on several replicas, of which one is killed now and then."""
        settings = self.settings
        with self.service(
            "load", batch_size=settings.batch_size, replicas=settings.replicas
        ) as service:
            deadline = time.monotonic() + LONGEST_START_S
            while len(service.replicas()) < settings.replicas and time.monotonic() < deadline:
                time.sleep(0.5)

            async def kill() -> None:
                service.replicas()[0].kill()

            kills: list[Milestone] = [(share, kill) for share in KILLS]
            forms = self.forms(len(SHARES), settings.jobs)
            outcome = asyncio.run(run_load(service.url, forms, self.scene, kills))
            for job in outcome.jobs:
                requests.get(
                    f"{service.url}/v1/videos/{job}/content", timeout=60
                ).raise_for_status()
            return outcome

    def forms(self, sizes: int, count: int | None = None) -> list[dict[str, str]]:
        """Fields of as many clips, of the first so many sizes in turn."""
        fields = []
        for seed in range(count or self.settings.clips):
            tall, wide = SHARES[seed % sizes]
            size = f"{int(wide * self.side)}x{int(tall * self.side)}"
            fields.append({**self._form(seed), "size": size})
        return fields

    def row(self, what: str, outcome: Outcome) -> dict[str, Any]:
        return {
            "what": what,
            "clips_a_second": short(len(outcome.jobs) / outcome.seconds),
            "mean_batch": short(outcome.mean_batch),
            "p50_s": short(outcome.percentile(50)),
            "p95_s": short(outcome.percentile(95)),
            "p99_s": short(outcome.percentile(99)),
            "completed": f"{outcome.completed} of {len(outcome.jobs)}",
        }

    @contextmanager
    def service(self, name: str, **keys: Any) -> Iterator[Service]:
        common = {
            "model": str(self.folder / "model"),
            "num_cpus": self.settings.num_cpus,
            "dtype": self.settings.dtype,
            **({"device": self.settings.device} if self.settings.device else {}),
        }
        service = Service(self.folder / name, {**common, **keys})
        try:
            service.start()
            yield service
        finally:
            service.stop()

    def _form(self, seed: int) -> dict[str, str]:
        settings = self.settings
        return {
            "prompt": PROMPT,
            "seed": str(seed),
            "num_inference_steps": str(settings.steps),
            "mask_steps": str(settings.steps),
            "guidance_scale": str(settings.guidance_scale),
        }

    def _bare(self, pipe: Any, seed: int) -> bytes:
        settings = self.settings
        out = pipe(
            Image.open(io.BytesIO(self.scene)),
            PROMPT,
            generator=torch.Generator().manual_seed(seed),
            num_inference_steps=settings.steps,
            mask_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
        )
        return encode_mp4(eight_bit(out.frames[0]), FPS)

    def _served(self, service: Service, seed: int) -> bytes:
        answer = requests.post(
            f"{service.url}/v1/videos/sync",
            data=self._form(seed),
            files={"input_reference": self.scene},
            timeout=600,
        )
        answer.raise_for_status()
        return answer.content


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
