"""Many jobs at a running service at once, watched by HTTP as their user would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

LOOK_S = 1.0
"""How often the list of jobs is looked at."""
EXPORT_S = 12
"""Ray exports figures every ten seconds; to read them takes long, on cores that have other work."""

Milestone = tuple[float, Callable[[], Awaitable[None]]]
"""A share of finished jobs, and what happens when it is reached."""


@dataclass
class Outcome:
    """What became of the jobs.

    Attributes:
        seconds: from the first request until the last job ended.
        latencies: seconds of each job, from its request until its end was seen.
        jobs: the last object of each, by id.
        batches, batched: batches, and clips in them, that the service's figures tell of.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: float = 0.0
    batched: float = 0.0

    @property
    def completed(self) -> int:
        return sum(job["status"] == "completed" for job in self.jobs.values())

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent))

    @property
    def mean_batch(self) -> float | None:
        return self.batched / self.batches if self.batches else None


async def run_load(
    url: str,
    forms: Sequence[dict[str, str]],
    scene: bytes,
    milestones: Sequence[Milestone] = (),
    limit_s: float = 1800,
) -> Outcome:
    """Ask for all clips at once, and wait until every job has ended.

    Args:
        forms: fields of a video, each with the same picture.
        milestones: in rising order.

    Raises:
        RuntimeError: if a job is refused or lost, or they do not end in time.
    """
    outcome = Outcome()
    began = time.perf_counter()
    asked: dict[str, float] = {}
    left = list(milestones)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(form: dict[str, str]) -> None:
            body = aiohttp.FormData(form)
            body.add_field("input_reference", scene, filename="scene.png", content_type="image/png")
            at = time.perf_counter()
            async with session.post(f"{url}/v1/videos", data=body) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status}: {await answer.text()}")
                asked[(await answer.json())["id"]] = at

        await asyncio.gather(*(ask(form) for form in forms))
        figures = _BatchFigures()
        looked = began
        ended: dict[str, float] = {}
        with tqdm(total=len(forms), unit="clip", leave=False) as bar:
            while len(ended) < len(asked):
                await asyncio.sleep(LOOK_S)
                listed = await _listed(session, url)
                now = time.perf_counter()
                if now - began > limit_s:
                    raise RuntimeError(f"{len(asked) - len(ended)} jobs did not end")
                for job in listed:
                    if job["id"] in asked:
                        outcome.jobs[job["id"]] = job
                        if job["status"] in ("completed", "failed"):
                            ended.setdefault(job["id"], now)
                if now - looked > EXPORT_S:
                    await figures.look(session, url)
                    looked = now
                bar.update(len(ended) - bar.n)
                while left and len(ended) >= left[0][0] * len(asked):
                    await left.pop(0)[1]()
        await asyncio.sleep(EXPORT_S)
        await figures.look(session, url)
    outcome.seconds = max(ended.values()) - began
    outcome.latencies = [ended[job] - at for job, at in asked.items()]
    outcome.batches, outcome.batched = figures.totals()
    return outcome


async def _listed(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    """All jobs, page after page; none where the service does not answer just now."""
    jobs: list[dict[str, Any]] = []
    query = {"limit": "100", "order": "asc"}
    while True:
        try:
            async with session.get(f"{url}/v1/videos", params=query) as answer:
                if answer.status != 200:
                    return jobs
                page = await answer.json()
        except aiohttp.ClientError:
            return jobs
        jobs += page["data"]
        if not page["has_more"]:
            return jobs
        query["after"] = page["last_id"]


class _BatchFigures:
    """The batch sizes that the replicas tell of; those of a dead one are remembered."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], float] = {}

    async def look(self, session: aiohttp.ClientSession, url: str) -> None:
        try:
            async with session.get(f"{url}/metrics") as answer:
                text = await answer.text() if answer.status == 200 else ""
        except aiohttp.ClientError:
            return
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in ("ray_handi_batch_size_sum", "ray_handi_batch_size_count"):
                    key = (sample.name.rsplit("_", 1)[1], sample.labels.get("replica", ""))
                    self._seen[key] = max(sample.value, self._seen.get(key, 0.0))

    def totals(self) -> tuple[float, float]:
        """Batches, and clips in them."""
        return tuple(  # type: ignore[return-value]
            sum(value for (kind, _), value in self._seen.items() if kind == wanted)
            for wanted in ("count", "sum")
        )
