"""Whatever order gateways, replicas and users act in, no job is lost and none has two holders."""

from __future__ import annotations

from dataclasses import dataclass, field
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import literal

from serve.records import VideoJob
from serve.store import JobStore

NEVER = 1e12
MOST_QUEUED = 3
MOST_ATTEMPTS = 3


@dataclass
class Known:
    """What must be true of one job."""

    status: str = "queued"
    ticket: str | None = None
    lease_until: float = 0.0
    attempts: int = 0
    deleted: bool = False
    completions: int = 0
    tickets: list[str] = field(default_factory=list)


class Service(RuleBasedStateMachine):
    jobs = Bundle("jobs")
    tickets = Bundle("tickets")

    @initialize()
    def open(self) -> None:
        self.now = 1000.0
        clock = mock.patch("serve.store.now", lambda: literal(self.now))
        clock.start()
        self.clock = clock
        self.store = JobStore("sqlite://")
        self.known: dict[str, Known] = {}
        self.named = 0

    def teardown(self) -> None:
        if hasattr(self, "clock"):
            self.clock.stop()
            self.store._engine.dispose()

    def due(self, job: Known) -> bool:
        unfinished = job.status in ("queued", "in_progress")
        return not job.deleted and unfinished and job.lease_until <= self.now

    def holder(self, ticket: str) -> Known | None:
        running = [job for job in self.known.values() if job.status == "in_progress"]
        return next((job for job in running if job.ticket == ticket and not job.deleted), None)

    @rule(target=jobs)
    def add(self) -> str:
        job = VideoJob(
            model="handi",
            prompt="lift box",
            height=64,
            width=64,
            num_frames=16,
            fps=8.0,
            seed=0,
            guidance_scale=1.0,
            num_inference_steps=2,
            mask_steps=2,
            created_at=self.now,
        )
        queued = sum(one.status == "queued" and not one.deleted for one in self.known.values())
        assert self.store.add(job, MOST_QUEUED) == (queued < MOST_QUEUED)
        if queued < MOST_QUEUED:
            self.known[job.id] = Known()
        return job.id

    @rule(target=tickets, job_id=jobs, lease_s=st.sampled_from([0.0, 5.0, 50.0]))
    def claim(self, job_id: str, lease_s: float) -> str:
        self.named += 1
        ticket = f"ticket {self.named}"
        claimed = self.store.claim({job_id: ticket}, lease_s)
        job = self.known.get(job_id)
        if job and self.due(job):
            assert [(one.id, one.ticket) for one in claimed] == [(job_id, ticket)]
            job.status, job.ticket = "in_progress", ticket
            job.lease_until = self.now + lease_s
            job.attempts += 1
            job.tickets.append(ticket)
        else:
            assert claimed == []
        return ticket

    @rule(ticket=tickets, percent=st.integers(0, 99))
    def beat(self, ticket: str, percent: int) -> None:
        job = self.holder(ticket)
        assert self.store.beat({ticket: percent}, 20) == (set() if job else {ticket})
        if job:
            job.lease_until = self.now + 20

    @rule(ticket=tickets, rest_s=st.sampled_from([0.0, 5.0]))
    def release(self, ticket: str, rest_s: float) -> None:
        job = self.holder(ticket)
        assert self.store.release(ticket, rest_s) == bool(job)
        if job:
            job.status, job.ticket, job.lease_until = "queued", None, self.now + rest_s

    @rule(ticket=tickets)
    def complete(self, ticket: str) -> None:
        job = self.holder(ticket)
        assert self.store.complete(ticket, NEVER) == bool(job)
        if job:
            job.status = "completed"
            job.completions += 1

    @rule(ticket=tickets)
    def fail(self, ticket: str) -> None:
        job = self.holder(ticket)
        assert self.store.fail(ticket, "generation_failed", "why", NEVER) == bool(job)
        if job:
            job.status, job.ticket = "failed", None

    @rule()
    def give_up(self) -> None:
        over = [
            job for job in self.known.values() if self.due(job) and job.attempts >= MOST_ATTEMPTS
        ]
        assert self.store.give_up(MOST_ATTEMPTS, NEVER) == len(over)
        for job in over:
            job.status, job.ticket = "failed", None

    @rule(job_id=jobs)
    def delete(self, job_id: str) -> None:
        job = self.known.get(job_id)
        assert self.store.delete(job_id, "") == bool(job and not job.deleted)
        if job:
            job.deleted, job.ticket = True, None

    @rule()
    def sweep(self) -> None:
        over = set(self.store.outlived(100))
        assert over == {job_id for job_id, job in self.known.items() if job.deleted}
        for job_id in over:
            self.store.forget(job_id)
            del self.known[job_id]

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def no_accepted_job_vanishes_and_each_is_where_it_should_be(self) -> None:
        shown = {job.id: job for job in self.store.page("", 100)}
        assert shown.keys() == {i for i, job in self.known.items() if not job.deleted}
        for job_id, job in shown.items():
            known = self.known[job_id]
            assert (job.status, job.ticket) == (known.status, known.ticket)
            assert job.attempts == known.attempts

    @invariant()
    def what_nobody_works_on_is_due(self) -> None:
        due = {job.id for job in self.store.due(100)}
        assert due == {job_id for job_id, job in self.known.items() if self.due(job)}

    @invariant()
    def a_job_has_one_valid_ticket_at_most_and_completes_once_at_most(self) -> None:
        tickets = [job.ticket for job in self.store.page("", 100) if job.ticket]
        assert len(tickets) == len(set(tickets))
        for job in self.known.values():
            assert job.completions <= 1
            # Every earlier ticket of the job is void, whatever its holder believes.
            assert all(t == job.ticket or self.holder(t) is None for t in job.tickets)


TestService = Service.TestCase
TestService.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
