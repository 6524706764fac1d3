"""The job records: whatever was accepted stands here until it is finished or its user deletes it.

Every change of a job is one conditional statement, so that any number of gateways, dispatchers and
replicas may work on one store. Who works on a job holds its ticket for as long as its lease lasts;
a report under another ticket changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import (
    CursorResult,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session
from tenacity import (
    retry,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from pipelines.patience import PATIENCE_S
from serve.database import open_database
from serve.records import VideoJob

UNFINISHED = ("queued", "in_progress")

patient_store = retry(
    retry=retry_if_exception_type((InterfaceError, OperationalError)),
    stop=stop_after_delay(PATIENCE_S),
    wait=wait_exponential(max=10),
    reraise=True,
)
"""Decorates a report that must not be lost while the database is away."""


class JobStore:
    """Args:
        url: of SQLAlchemy; a missing SQLite file and missing tables are made.
        password_file: with the database's password.

    Raises:
        ValueError: if it cannot be opened, in one line.
    """

    def __init__(self, url: str, password_file: str | None = None) -> None:
        self._engine = open_database(url, password_file)

    def add(self, job: VideoJob, most_queued: int) -> bool:
        """Accept a job unless so many are queued already; gateways at once may add one each."""
        values = {column.key: getattr(job, column.key) for column in VideoJob.__mapper__.columns}
        queued = select(func.count()).where(*_visible(), VideoJob.status == "queued")
        types = VideoJob.__table__.c
        row = select(*(bindparam(name, value, types[name].type) for name, value in values.items()))
        row = row.where(queued.scalar_subquery() < most_queued)
        return self._change(insert(VideoJob).from_select(list(values), row)) == 1

    def get(self, job_id: str, owner: str) -> VideoJob | None:
        """The owner's job of that id."""
        jobs = self._read(select(VideoJob).where(*_visible(owner), VideoJob.id == job_id))
        return jobs[0] if jobs else None

    def page(
        self, owner: str, limit: int, after: VideoJob | None = None, newest_first: bool = True
    ) -> list[VideoJob]:
        """The owner's jobs in the order they came in, from the one after `after`."""
        key = tuple_(VideoJob.created_at, VideoJob.id)
        query = select(VideoJob).where(*_visible(owner)).limit(limit)
        if after:
            mark = tuple_(after.created_at, after.id)
            query = query.where(key < mark if newest_first else key > mark)
        order = (VideoJob.created_at, VideoJob.id)
        return self._read(query.order_by(*(o.desc() for o in order) if newest_first else order))

    def counts(self) -> dict[str, int]:
        """Jobs that are queued and in progress."""
        query = (
            select(VideoJob.status, func.count())
            .where(*_visible(), VideoJob.status.in_(UNFINISHED))
            .group_by(VideoJob.status)
        )
        with Session(self._engine) as session:
            found = dict(session.execute(query).tuples().all())
        return {status: found.get(status, 0) for status in UNFINISHED}

    def seconds_a_job(self) -> int:
        """How long the service took for a job over the last minute, rounded up to 1 to 60."""
        ended = select(func.count()).where(VideoJob.completed_at > time.time() - 60)
        with Session(self._engine) as session:
            return math.ceil(60 / (session.scalar(ended) or 1))

    def due(
        self, limit: int, sent: Collection[str] = (), max_attempts: int | None = None
    ) -> list[VideoJob]:
        """Jobs that nobody works on, oldest first, without those that are on their way already.

        Args:
            max_attempts: a job that was started so often is to be given up, not started again.
        """
        query = select(VideoJob).where(*_visible(), _due(), VideoJob.id.not_in(sent))
        if max_attempts is not None:
            query = query.where(VideoJob.attempts < max_attempts)
        return self._read(query.order_by(VideoJob.created_at, VideoJob.id).limit(limit))

    def wanted(self, ids: Collection[str]) -> set[str]:
        """Those of the jobs that are unfinished and not deleted."""
        query = select(VideoJob.id).where(
            *_visible(), VideoJob.id.in_(ids), VideoJob.status.in_(UNFINISHED)
        )
        with Session(self._engine) as session:
            return set(session.scalars(query))

    def claim(self, tickets: Mapping[str, str], lease_s: float) -> list[VideoJob]:
        """Start jobs, each under its ticket.

        Args:
            tickets: a new ticket by job id.

        Returns:
            Those that were due; the others are deleted, finished, or somebody else's.
        """
        now = time.time()
        orders = sorted(tickets.items())  # so that two claims cannot deadlock
        started = self._change_all(
            update(VideoJob)
            .where(*_visible(), _due(), VideoJob.id == job_id)
            .values(
                status="in_progress",
                progress=0,
                ticket=ticket,
                lease_until=now + lease_s,
                attempts=VideoJob.attempts + 1,
            )
            for job_id, ticket in orders
        )
        own = [ticket for (_, ticket), rows in zip(orders, started, strict=True) if rows]
        return self._read(select(VideoJob).where(VideoJob.ticket.in_(own)))

    def beat(self, progress: Mapping[str, int], lease_s: float) -> set[str]:
        """Renew the leases of tickets and report their progress.

        Args:
            progress: percent by ticket.

        Returns:
            Tickets that are void: the job was deleted or given to somebody else.
        """
        until = time.time() + lease_s
        renewed = self._change_all(
            _held(ticket).values(progress=percent, lease_until=until)
            for ticket, percent in progress.items()
        )
        return {ticket for ticket, rows in zip(progress, renewed, strict=True) if not rows}

    def complete(self, ticket: str, expires_at: float) -> bool:
        """End a job well; False if the ticket is void."""
        return self._report(
            ticket,
            status="completed",
            progress=100,
            ticket=None,
            completed_at=time.time(),
            expires_at=expires_at,
        )

    def fail(self, ticket: str, code: str, message: str, expires_at: float) -> bool:
        """End a job badly; False if the ticket is void."""
        return self._report(
            ticket,
            status="failed",
            ticket=None,
            error_code=code,
            error_message=message.replace("\0", ""),  # which PostgreSQL does not take
            completed_at=time.time(),
            expires_at=expires_at,
        )

    def release(self, ticket: str) -> bool:
        """Put a job back whose replica died; False if the ticket is void."""
        return self._report(ticket, status="queued", progress=0, ticket=None)

    def give_up(self, max_attempts: int, expires_at: float, sent: Collection[str] = ()) -> int:
        """End the due jobs that were started so often, without those that are on their way."""
        return self._change(
            update(VideoJob)
            .where(
                *_visible(),
                _due(),
                VideoJob.attempts >= max_attempts,
                VideoJob.id.not_in(sent),
            )
            .values(
                status="failed",
                ticket=None,
                error_code="interrupted",
                error_message=f"interrupted {max_attempts} times: replicas or stores failed",
                completed_at=time.time(),
                expires_at=expires_at,
            )
        )

    def delete(self, job_id: str, owner: str) -> bool:
        """Hide the owner's job from everybody, whoever works on it."""
        return (
            self._change(
                update(VideoJob)
                .where(*_visible(owner), VideoJob.id == job_id)
                .values(deleted=True, ticket=None)
            )
            == 1
        )

    def outlived(self, limit: int) -> list[str]:
        """Ids of jobs that are deleted, or whose time is over."""
        over = or_(VideoJob.deleted, VideoJob.expires_at <= time.time())
        with Session(self._engine) as session:
            return list(session.scalars(select(VideoJob.id).where(over).limit(limit)))

    def forget(self, job_id: str) -> None:
        """Remove the record of a job whose files are removed."""
        self._change(delete(VideoJob).where(VideoJob.id == job_id))

    def _report(self, ticket: str, /, **values: Any) -> bool:
        return self._change(_held(ticket).values(**values)) == 1

    def _change(self, statement: Any) -> int:
        return self._change_all([statement])[0]

    def _change_all(self, statements: Iterable[Any]) -> list[int]:
        """Execute in one transaction; gives how many rows each changed."""
        with self._engine.begin() as connection:
            # Without the option an insert counts no rows on PostgreSQL.
            results: list[CursorResult[Any]] = [
                connection.execute(statement.execution_options(preserve_rowcount=True))
                for statement in statements
            ]
            return [result.rowcount for result in results]

    def _read(self, query: Any) -> list[VideoJob]:
        with Session(self._engine, expire_on_commit=False) as session:
            return list(session.scalars(query))


def _visible(owner: str | None = None) -> list[Any]:
    """Not deleted, not expired, and of the owner if one is given."""
    alive = or_(VideoJob.expires_at.is_(None), VideoJob.expires_at > time.time())
    whose = [] if owner is None else [VideoJob.owner == owner]
    return [VideoJob.deleted.is_(False), alive, *whose]


def _held(ticket: str) -> Any:
    """An update of the job of a ticket that is not void."""
    return update(VideoJob).where(*_visible(), VideoJob.ticket == ticket)


def _due() -> Any:
    """Queued, or given to somebody who has fallen silent."""
    silent = and_(VideoJob.status == "in_progress", VideoJob.lease_until < time.time())
    return or_(VideoJob.status == "queued", silent)
