"""Figures for Prometheus: Ray exports them on every node, and the service hands them on."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Container, Iterable
from contextlib import suppress

import aiohttp
import ray
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from ray.serve.metrics import Counter, Histogram
from sqlalchemy.exc import SQLAlchemyError

SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000]
BATCHES = [size + 0.5 for size in (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 64)]
"""Between whole numbers: Ray sums up the middles of the buckets that its values fall into."""
OURS = re.compile(r"(# (HELP|TYPE) )?ray_handi_")
FRESH_S = 5
"""How long what was scraped is handed on."""


class ModelFigures:
    """Of a replica of the model."""

    def __init__(self) -> None:
        self._batch = Histogram(
            "handi_batch_size",
            "Clips that were denoised together.",
            boundaries=BATCHES,
        )
        # Counters, for Ray rounds what a histogram sums up to the middles of its buckets.
        stages = {
            "handi_stage_seconds": "Spent in a stage: mask and video a batch, write a clip.",
            "handi_stage_runs": "How often a stage was gone through.",
        }
        self._stage_seconds, self._stage_runs = (
            Counter(name, what, tag_keys=("stage",)) for name, what in stages.items()
        )
        self._ended = Counter("handi_jobs_ended", "Jobs by outcome.", tag_keys=("outcome",))
        self._job = Histogram(
            "handi_job_seconds", "From the request to the end of a job.", boundaries=SECONDS
        )
        self._interrupted = Counter("handi_jobs_interrupted", "Starts of jobs that broke off.")

    def batch(self, size: int) -> None:
        self._batch.observe(size)

    def stage(self, stage: str, seconds: float) -> None:
        self._stage_seconds.inc(max(seconds, 1e-9), {"stage": stage})
        self._stage_runs.inc(1, {"stage": stage})

    def ended(self, outcome: str, seconds: float) -> None:
        self._ended.inc(1, {"outcome": outcome})
        self._job.observe(max(seconds, 1e-9))

    def interrupted(self) -> None:
        self._interrupted.inc()


class Scrape:
    """The figures of all nodes that answer and of the store, in Prometheus' text format.

    Args:
        counts: jobs by status; a store that is away is left out.

    Ray exports them every ten seconds, at some cost: whoever asks in between gets what the last one
    got, and who asks at the same time waits for one scrape.
    """

    def __init__(self, counts: Callable[[], dict[str, int]]) -> None:
        self._counts = counts
        self._lock = asyncio.Lock()
        self._made_at = -math.inf
        self._made = b""

    async def __call__(self) -> bytes:
        async with self._lock:
            if time.monotonic() - self._made_at >= FRESH_S:
                live = await asyncio.to_thread(live_replicas)
                texts = await _exported()
                self._made = await asyncio.to_thread(self._told, texts, live)
                self._made_at = time.monotonic()
            return self._made

    def _told(self, texts: list[str], live: set[str]) -> bytes:
        queue = b""
        with suppress(SQLAlchemyError):
            queue = of_queue(self._counts())
        return merged(texts, live) + queue


def of_queue(counts: dict[str, int]) -> bytes:
    """The jobs of the store as a family of their own."""
    family = GaugeMetricFamily("ray_handi_jobs", "Jobs by status.", labels=["status"])
    for status, count in counts.items():
        family.add_metric([status], count)
    return _exposition([family])


def live_replicas() -> set[str]:
    """Ids of the replicas of all deployments on the cluster; each is an actor with a name."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"].rpartition("#")[2] for actor in actors if actor["namespace"] == "serve"}


async def _exported() -> list[str]:
    """What each node tells of everything on it."""
    nodes = [node for node in await asyncio.to_thread(ray.nodes) if node["Alive"]]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:

        async def of_node(node: dict[str, object]) -> str:
            url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            try:
                async with session.get(url) as answer:
                    return await answer.text() if answer.status == 200 else ""
            except (aiohttp.ClientError, TimeoutError):
                return ""

        return await asyncio.gather(*(of_node(node) for node in nodes))


def merged(texts: Iterable[str], live: Container[str]) -> bytes:
    """The service's families of several expositions, each family once.

    Args:
        live: ids of replicas; Ray goes on telling what those said that are gone.
    """
    families: dict[str, Metric] = {}
    for text in texts:
        # What Ray tells of itself is a hundred times as much, and slow to parse.
        own = "\n".join(line for line in text.splitlines() if OURS.match(line))
        for family in text_string_to_metric_families(own + "\n"):
            known = families.setdefault(family.name, family)
            if known is not family:
                known.samples += family.samples
    for family in families.values():
        family.samples = [
            sample for sample in family.samples if sample.labels.get("replica", "") in live
        ]

    return _exposition(families.values())


def _exposition(families: Iterable[Metric]) -> bytes:
    class Collected:
        def collect(self) -> Iterable[Metric]:
            return families

    registry = CollectorRegistry()
    registry.register(Collected())
    return generate_latest(registry)
