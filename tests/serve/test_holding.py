"""What a replica holds: leases are renewed while it lives, and nobody works for nothing."""

from __future__ import annotations

import asyncio

import pytest

from serve.model.holding import BEATS_A_LEASE, Held, Watch
from serve.model.rendering import Abandoned


class Store:
    """Notes the beats, and says which tickets are void."""

    def __init__(self) -> None:
        self.beats: list[tuple[dict[str, int], float]] = []
        self.void: set[str] = set()
        self.away = 0

    def beat(self, progress: dict[str, int], lease_s: float) -> set[str]:
        if self.away:
            self.away -= 1
            raise OSError("the store is away")
        self.beats.append((dict(progress), lease_s))
        return self.void & set(progress)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def held(store) -> Held:
    return Held(store, 20.0)  # type: ignore[arg-type]


def beaten(held: Held) -> None:
    asyncio.run(held.beat())


def test_a_beat_renews_all_that_is_held_with_its_progress(held, store):
    held.take(["a", "b"])
    held.report(["b"], 40)
    beaten(held)
    held.drop("a")
    beaten(held)
    assert store.beats == [({"a": 0, "b": 40}, 20.0), ({"b": 40}, 20.0)]


def test_what_is_void_is_known_after_the_next_beat(held, store):
    held.take(["a", "b"])
    store.void = {"a"}
    assert not held.all_void(["a"])
    beaten(held)
    assert held.all_void(["a"])
    assert not held.all_void(["a", "b"])
    store.void = {"a", "b"}
    beaten(held)
    assert held.all_void(["a", "b"])


def test_a_dropped_ticket_is_forgotten(held, store):
    held.take(["a"])
    store.void = {"a"}
    beaten(held)
    held.drop("a")
    held.drop("a")
    held.drop("never taken")
    assert not held.all_void(["a"])


def test_a_ticket_that_is_dropped_during_a_beat_is_not_remembered_as_void(held, store):
    held.take(["a"])
    store.void = {"a"}
    beat = store.beat

    def meanwhile(progress: dict[str, int], lease_s: float) -> set[str]:
        void = beat(progress, lease_s)
        held.drop("a")
        return void

    store.beat = meanwhile
    beaten(held)
    assert not held.all_void(["a"])


def test_a_late_report_does_not_renew_a_lease_that_was_dropped(held, store):
    held.take(["a"])
    held.drop("a")
    held.report(["a"], 50)
    beaten(held)
    assert store.beats == [({}, 20.0)]


def test_leases_are_renewed_many_times_each_and_a_store_that_is_away_is_asked_again(store):
    store.away = 2
    held = Held(store, 0.2)  # type: ignore[arg-type]
    held.take(["a"])

    async def live() -> None:
        keeping = asyncio.create_task(held.keep())
        while len(store.beats) < 3:
            assert not keeping.done()
            await asyncio.sleep(0.01)
        keeping.cancel()

    asyncio.run(asyncio.wait_for(live(), 60))
    assert store.away == 0
    assert BEATS_A_LEASE >= 3, "a beat or two may be lost within a lease"


def test_progress_is_the_share_of_the_steps_and_is_full_only_when_the_clip_is_there(held, store):
    held.take(["a", "b"])
    watch = Watch(held, ["a", "b"], steps=8)
    seen = []
    for done in range(1, 9):
        watch("mask" if done <= 4 else "video", done)
        beaten(held)
        (progress, _) = store.beats[-1]
        assert progress["a"] == progress["b"]
        seen.append(progress["a"])
    assert seen == [12, 25, 37, 50, 62, 75, 87, 99]


def test_a_batch_is_abandoned_once_nobody_wants_any_of_it(held, store):
    held.take(["a", "b"])
    watch = Watch(held, ["a", "b"], steps=8)
    store.void = {"a"}
    beaten(held)
    watch("mask", 1)
    store.void = {"a", "b"}
    beaten(held)
    with pytest.raises(Abandoned):
        watch("mask", 2)


def test_a_batch_without_tickets_is_never_abandoned(held):
    Watch(held, [], steps=2)("mask", 1)


def test_the_time_of_each_stage_is_counted(held, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("serve.model.holding.time.monotonic", lambda: now[0])
    watch = Watch(held, [], steps=3)
    for stage, second in (("mask", 103.0), ("mask", 104.0), ("video", 110.0)):
        now[0] = second
        watch(stage, 1)
    assert watch.seconds == {"mask": 4.0, "video": 6.0}
    assert watch.last_step == 110.0
