"""A replica's way through the queue, without Ray: a real store, a model that only pretends."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from serve.files import SCENE, JobFiles
from serve.model.device import Device
from serve.model.holding import Held
from serve.model.rendering import Clip, Item, OnStep
from serve.model.worker import Worker
from serve.records import VideoJob
from serve.settings import ServeSettings
from serve.store import JobStore
from tests.serve.test_store import job

PATIENCE_S = 60
BLACK = Clip(np.zeros((2, 16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8))


class Figures:
    """Counts what is told, whatever it is."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: self.told.append((name, *values))

    def of(self, name: str) -> list[Any]:
        return [values[0] if values else None for told, *values in self.told if told == name]


class Model:
    """Renders black clips; a prompt is a wish of how.

    Attributes:
        started: prompts, batch by batch.
        go: by replica; jobs with the prompt "long" take steps until it is set.
    """

    def __init__(self) -> None:
        self.started: list[list[str]] = []
        self.go: dict[str, threading.Event] = defaultdict(threading.Event)

    def go_on(self, *names: str) -> None:
        for name in names or ("a", "b"):
            self.go[name].set()

    def __call__(self, pipe: Any, items: Sequence[Item], on_step: OnStep) -> list[Any]:
        name = pipe.name
        prompts = [item.job.prompt for item in items]
        self.started.append(prompts)
        on_step("mask", 1)
        if "long" in prompts:
            while not self.go[name].wait(0.01):
                on_step("video", 1)
        if "exit" in prompts:
            raise SystemExit("a library thinks that it is a program")
        if "interrupt" in prompts:
            raise KeyboardInterrupt
        failed = {"memory": MemoryError("no memory"), "refused": ValueError("prompt: bad")}
        return [failed.get(prompt, (name, BLACK)) for prompt in prompts]


@pytest.fixture
def model(monkeypatch) -> Iterator[Model]:
    """In the place of rendering and encoding; the files of a clip say which replica made it."""
    model = Model()
    monkeypatch.setattr("serve.model.worker.render", model)
    monkeypatch.setattr(
        "serve.model.worker.encoded", lambda made, fps: {"video.mp4": made[0].encode()}
    )
    monkeypatch.setattr("serve.model.worker.POLL_S", 0.02)
    monkeypatch.setattr("serve.model.worker.REST_S", 0.02)
    yield model
    model.go_on("a", "b", "silent")  # a test that failed leaves no thread behind


@pytest.fixture
def settings(settings) -> ServeSettings:
    return settings.model_copy(update={"batch_size": 1, "lease_s": 60.0, "batch_wait_s": 0.0})


@pytest.fixture
def files(settings) -> JobFiles:
    return JobFiles(settings.results)


@pytest.fixture
def store(settings) -> JobStore:
    return JobStore(settings.store)


class Replica:
    def __init__(self, name: str, settings: ServeSettings, store: Any = None) -> None:
        self.figures = Figures()
        store = store or JobStore(settings.store)
        files, device = JobFiles(settings.results), Device("cpu", 600, self.figures)  # type: ignore[arg-type]
        self.held = Held(store, settings.lease_s)
        self.device = device
        pipe = SimpleNamespace(name=name, config=SimpleNamespace(uses_mask=True))
        self.worker = Worker(settings, store, files, self.held, device, self.figures, pipe)  # type: ignore[arg-type]


def accepted(store: JobStore, files: JobFiles, prompt: str = "", owner: str = "") -> VideoJob:
    one = job(owner, prompt=prompt)
    files.write(one.id, SCENE, b"png")
    assert store.add(one, 100)
    return one


def seen(store: JobStore, one: VideoJob) -> VideoJob:
    found = store.get(one.id, one.owner)
    assert found
    return found


async def until(look: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not look():
            await asyncio.sleep(0.01)


def completed(store: JobStore, *jobs: VideoJob) -> Callable[[], bool]:
    return lambda: all(seen(store, one).status == "completed" for one in jobs)


@asynccontextmanager
async def replicas(settings: ServeSettings, *names: str) -> AsyncIterator[list[Replica]]:
    made = [Replica(name, settings) for name in names]
    yield made
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(one.worker.drain() for one in made))


def test_jobs_are_done_without_anybody_who_sends_them(model, settings, store, files):
    async def live() -> None:
        async with replicas(settings, "a") as (replica,):
            jobs = [accepted(store, files) for _ in range(3)]
            replica.worker.wake()
            await until(completed(store, *jobs))
            for one in jobs:
                assert files.read(seen(store, one).result, "video.mp4") == b"a"
            replica.worker.check()
        assert replica.figures.of("ended") == ["completed"] * 3

    asyncio.run(live())


def test_short_jobs_do_not_wait_behind_a_long_one_while_another_replica_idles(
    model, settings, store, files
):
    async def live() -> None:
        async with replicas(settings, "a", "b"):
            long = accepted(store, files, "long")
            await until(lambda: seen(store, long).status == "in_progress")
            short = [accepted(store, files) for _ in range(8)]
            await until(completed(store, *short))
            assert seen(store, long).status == "in_progress"
            model.go_on()
            await until(completed(store, long))

    asyncio.run(live())


def test_a_busy_replica_holds_only_what_it_runs(model, settings, store, files):
    async def live() -> None:
        async with replicas(settings, "a") as (replica,):
            long = accepted(store, files, "long")
            await until(lambda: seen(store, long).status == "in_progress")
            waits = [accepted(store, files) for _ in range(8)]
            for _ in range(5):
                replica.worker.wake()
                await asyncio.sleep(0.05)
            assert {(one.status, one.ticket) for one in store.due(100)} == {("queued", None)}
            assert len(store.due(100)) == len(waits)
            model.go_on()

    asyncio.run(live())


def test_what_waits_is_batched_with_its_like_in_the_order_of_the_turns(
    model, settings, store, files
):
    settings = settings.model_copy(update={"batch_size": 3})
    long = accepted(store, files, "long")
    for name in ("many 1", "many 2", "many 3", "many 4"):
        accepted(store, files, name, "many")
    other = accepted(store, files, "other", "other")

    async def live() -> None:
        async with replicas(settings, "a"):
            await until(lambda: seen(store, long).status == "in_progress")
            model.go_on()
            await until(completed(store, other))
            await until(lambda: not store.due(1))

    asyncio.run(live())
    first, second = model.started[:2]
    assert sorted(first) == ["long", "many 1", "other"]
    assert sorted(second) == ["many 2", "many 3", "many 4"]


class Silent(JobStore):
    """As a replica sees it that is stopped: its leases are not renewed."""

    def beat(self, progress: Any, lease_s: float) -> set[str]:
        raise OperationalError("beat", {}, Exception("it is stopped"))


def test_a_silent_replicas_job_is_done_by_another_and_its_late_result_is_dropped(
    model, settings, store, files
):
    settings = settings.model_copy(update={"lease_s": 1.0})

    async def live() -> None:
        silent = Replica("silent", settings, Silent(settings.store))
        one = accepted(store, files, "long")
        await until(lambda: seen(store, one).status == "in_progress")
        stale = seen(store, one)
        model.go_on()
        async with replicas(settings, "a"):
            await until(completed(store, one))
        found = seen(store, one)
        assert found.attempts >= 2 and found.ticket != stale.ticket
        model.go_on("silent")
        async with asyncio.timeout(PATIENCE_S):
            await silent.worker.drain()
        assert seen(store, one).completed_at == found.completed_at
        assert files.read(seen(store, one).result, "video.mp4") == b"a"
        assert not files.has(stale.result, "video.mp4"), "nothing is left of the late result"
        assert silent.figures.of("ended") == []

    asyncio.run(live())


class Forgetful(JobStore):
    """Its replies to the first change are lost, once the change is made."""

    lost = False

    def complete(self, ticket: str, keep_s: float) -> bool:
        done = super().complete(ticket, keep_s)
        if not self.lost:
            self.lost = True
            raise OperationalError("complete", {}, Exception("the connection is lost"))
        return done


def test_a_clip_whose_completion_was_not_confirmed_is_kept(model, settings, store, files):
    one = accepted(store, files)

    async def live() -> None:
        replica = Replica("a", settings, Forgetful(settings.store))
        await until(lambda: replica.figures.of("ended") == ["completed"])
        async with asyncio.timeout(PATIENCE_S):
            await replica.worker.drain()

    asyncio.run(live())
    assert files.read(seen(store, one).result, "video.mp4") == b"a"


class Counting(JobStore):
    """Counts how often it is asked for jobs, and told of those that are held."""

    looks = beats = 0

    def due(self, *args: Any, **keys: Any) -> list[VideoJob]:
        self.looks += 1
        return super().due(*args, **keys)

    def beat(self, progress: Any, lease_s: float) -> set[str]:
        self.beats += 1
        return super().beat(progress, lease_s)


def test_an_idle_replica_looks_for_jobs_ever_more_rarely_and_reports_nothing(
    model, settings, store, monkeypatch
):
    monkeypatch.setattr("serve.model.worker.LONGEST_POLL_S", 60)
    counting = Counting(settings.store)

    async def live() -> None:
        replica = Replica("a", settings.model_copy(update={"lease_s": 0.1}), counting)
        await until(lambda: counting.looks)
        await asyncio.sleep(1)
        # After 20 ms, 40 ms, 80 ms and so on; every 20 ms would be fifty times.
        assert counting.looks <= 8 and counting.beats == 0
        async with asyncio.timeout(PATIENCE_S):
            await replica.worker.drain()

    asyncio.run(live())


def test_a_deleted_job_of_a_running_batch_is_neither_written_nor_does_it_hold_up_the_others(
    model, settings, store, files
):
    settings = settings.model_copy(update={"batch_size": 2, "lease_s": 3.0})
    both = [accepted(store, files, "long") for _ in range(2)]

    async def live() -> None:
        async with replicas(settings, "a") as (replica,):
            await until(lambda: seen(store, both[1]).status == "in_progress")
            place = seen(store, both[0]).result
            store.delete(both[0].id, "")
            ticket = place.split("/")[1]
            await until(lambda: replica.held.all_void([ticket]))
            model.go_on()
            await until(completed(store, both[1]))
        assert not files.has(place, "video.mp4")
        assert model.started == [["long", "long"]]
        assert replica.figures.of("ended") == ["completed"]

    asyncio.run(live())


def test_a_batch_of_which_all_are_deleted_ends_at_once(model, settings, store, files):
    settings = settings.model_copy(update={"lease_s": 3.0})
    long = accepted(store, files, "long")

    async def live() -> None:
        async with replicas(settings, "a") as (replica,):
            await until(lambda: seen(store, long).status == "in_progress")
            store.delete(long.id, "")
            other = accepted(store, files)
            await until(completed(store, other))
        assert replica.figures.of("batch") == [1], "the other's alone"
        assert replica.figures.of("interrupted") == []

    asyncio.run(live())


@pytest.mark.parametrize("way", ["exit", "interrupt"])
def test_a_model_that_ends_the_process_costs_its_replica_and_the_job_is_tried_again(
    model, settings, store, files, way
):
    one, other = accepted(store, files, way), accepted(store, files)

    async def live() -> None:
        ended = Replica("a", settings)
        await until(lambda: ended.device.lost)
        await until(lambda: seen(store, one).status == "queued")
        assert seen(store, one).attempts == 1
        with pytest.raises(RuntimeError, match="would have ended the process"):
            ended.device.check()  # by which Serve replaces it
        async with asyncio.timeout(PATIENCE_S):
            await ended.worker.drain()
        assert seen(store, other).status == "queued", "it takes no more"
        for attempt in range(2, settings.max_attempts + 1):
            successor = Replica("b", settings)
            await until(lambda attempt=attempt: seen(store, one).attempts == attempt)
            await until(lambda: seen(store, one).status == "queued")
            async with asyncio.timeout(PATIENCE_S):
                await successor.worker.drain()
        async with replicas(settings, "a"):
            await until(completed(store, other))
        await until(lambda: store.give_up(settings.max_attempts, 60))  # once it has rested
        assert seen(store, one).error_code == "interrupted"

    asyncio.run(live())


@pytest.mark.parametrize("way", ["memory", "refused"])
def test_a_job_that_fails_costs_nobody_else_anything(model, settings, store, files, way):
    one, other = accepted(store, files, way), accepted(store, files)

    async def live() -> None:
        async with replicas(settings, "a") as (replica,):
            await until(completed(store, other))
            replica.device.check()
        failed = seen(store, one)
        assert (failed.status, failed.error_code) == ("failed", "server_error")
        assert one.id in failed.error_message, "under which the log tells more"

    asyncio.run(live())


def test_a_lost_device_fails_no_job(model, settings, store, files):
    one = accepted(store, files, "memory")

    async def live() -> None:
        replica = Replica("a", settings)
        replica.device.where = "cuda:99"  # which is not there, as after a fault of the driver
        await until(lambda: replica.device.lost)
        await until(lambda: seen(store, one).status == "queued")
        with pytest.raises(RuntimeError, match="does not compute any more"):
            replica.device.check()
        async with asyncio.timeout(PATIENCE_S):
            await replica.worker.drain()

    asyncio.run(live())


@pytest.mark.parametrize("error", [OSError("the disk is full"), SystemExit(1)])
def test_a_clip_that_cannot_be_written_puts_its_job_back(
    model, settings, store, files, monkeypatch, error
):
    write, fails = JobFiles.write, [error]

    def once(self: JobFiles, folder: str, name: str, data: bytes) -> None:
        if name == "video.mp4" and fails:
            raise fails.pop()
        write(self, folder, name, data)

    monkeypatch.setattr(JobFiles, "write", once)
    one = accepted(store, files)

    async def live() -> None:
        async with replicas(settings, "a"):
            await until(completed(store, one))
        assert seen(store, one).attempts == 2

    asyncio.run(live())


def test_a_replica_that_drains_ends_what_it_has_and_takes_no_more(model, settings, store, files):
    async def live() -> None:
        replica = Replica("a", settings)
        long = accepted(store, files, "long")
        await until(lambda: seen(store, long).status == "in_progress")
        waits = accepted(store, files)
        draining = asyncio.create_task(replica.worker.drain())
        await asyncio.sleep(0.1)
        assert not draining.done()
        model.go_on()
        async with asyncio.timeout(PATIENCE_S):
            await draining
        assert (seen(store, long).status, seen(store, waits).status) == ("completed", "queued")

    asyncio.run(live())


def test_a_store_that_is_away_is_asked_again(model, settings, store, files):
    class Away(JobStore):
        refusals = 3

        def due(self, limit: int, max_attempts: int | None = None) -> list[VideoJob]:
            if self.refusals:
                self.refusals -= 1
                raise OperationalError("due", {}, Exception("it is away"))
            return super().due(limit, max_attempts)

    async def live() -> None:
        replica = Replica("a", settings, Away(settings.store))
        one = accepted(store, files)
        await until(completed(store, one))
        replica.worker.check()
        await replica.worker.drain()

    asyncio.run(live())
