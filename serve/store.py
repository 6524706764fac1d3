"""The job records: whatever was accepted stands here until it is finished or its user deletes it.

Every change of a job is one conditional statement, so that any number of gateways and replicas may
work on one store. Who works on a job holds its ticket for as long as its lease lasts; a report
under another ticket changes nothing. Times are the database's own: the clocks of the machines that
work on it may differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.orm import Session
from tenacity import (
    retry,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from pipelines.patience import PATIENCE_S
from serve.database import now, open_database
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
        """Accept a job; False where its idempotency key is taken, or so many are queued already.

        Gateways at once may add one job each, but under one key only one of them. It gets its time,
        unless it has one, and its turn.
        """
        if job.idempotency_key:
            self._change(_freed_key(job))
        row: dict[str, Any] = {
            column.key: bindparam(column.key, getattr(job, column.key), column.type)
            for column in VideoJob.__mapper__.columns
        }
        row |= {"turn": _next_turn(job.owner)} | ({} if job.created_at else {"created_at": now()})
        queued = select(func.count()).where(*_visible(), VideoJob.status == "queued")
        room = queued.scalar_subquery() < most_queued
        added = insert(VideoJob).from_select(list(row), select(*row.values()).where(room))
        added = added.returning(VideoJob.created_at, VideoJob.turn)
        try:
            with self._engine.begin() as connection:
                found = connection.execute(added).first()
        except IntegrityError:
            if job.idempotency_key:  # of which there is a unique index
                return False
            raise
        if found:
            job.created_at, job.turn = found
        return found is not None

    def asked_before(self, owner: str, idempotency_key: str) -> VideoJob | None:
        """The owner's job under that key."""
        whose = (*_visible(owner), VideoJob.idempotency_key == idempotency_key)
        jobs = self._read(select(VideoJob).where(*whose))
        return jobs[0] if jobs else None

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
        ended = select(func.count()).where(VideoJob.completed_at > now() - 60)
        with Session(self._engine) as session:
            return math.ceil(60 / (session.scalar(ended) or 1))

    def due(self, limit: int, max_attempts: int | None = None) -> list[VideoJob]:
        """Jobs that nobody works on, in the order of their turns.

        Args:
            max_attempts: a job that was started so often is to be given up, not started again.
        """
        query = select(VideoJob).where(*_visible(), *_due())
        if max_attempts is not None:
            query = query.where(VideoJob.attempts < max_attempts)
        order = (VideoJob.turn, VideoJob.created_at, VideoJob.id)
        return self._read(query.order_by(*order).limit(limit))

    def claim(self, tickets: Mapping[str, str], lease_s: float) -> list[VideoJob]:
        """Start jobs, each under its ticket.

        Args:
            tickets: a new ticket by job id.

        Returns:
            Those that were due; the others are deleted, finished, or somebody else's.
        """
        orders = sorted(tickets.items())  # so that two claims cannot deadlock
        started = self._change_all(
            update(VideoJob)
            .where(*_visible(), *_due(), VideoJob.id == job_id)
            .values(
                status="in_progress",
                progress=0,
                ticket=ticket,
                lease_until=now() + lease_s,
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
        if not progress:
            return set()
        percent = case(dict(progress), value=VideoJob.ticket)
        self._change(_held(*progress).values(progress=percent, lease_until=now() + lease_s))
        held = select(VideoJob.ticket).where(*_valid(*progress))
        with Session(self._engine) as session:
            return set(progress) - set(session.scalars(held))

    def complete(self, ticket: str, keep_s: float) -> bool:
        """End a job well, and keep it for so long; False if the ticket is void."""
        return self._report(ticket, status="completed", progress=100, **_ended(keep_s))

    def fail(self, ticket: str, code: str, message: str, keep_s: float) -> bool:
        """End a job badly, and keep it for so long; False if the ticket is void."""
        return self._report(
            ticket,
            status="failed",
            ticket=None,
            error_code=code,
            error_message=message.replace("\0", ""),  # which PostgreSQL does not take
            **_ended(keep_s),
        )

    def release(self, ticket: str, rest_s: float = 0.0) -> bool:
        """Put a job back, to be started again after a rest; False if the ticket is void."""
        return self._report(
            ticket, status="queued", progress=0, ticket=None, lease_until=now() + rest_s
        )

    def give_up(self, max_attempts: int, keep_s: float) -> int:
        """End the due jobs that were started so often."""
        return self._change(
            update(VideoJob)
            .where(*_visible(), *_due(), VideoJob.attempts >= max_attempts)
            .values(
                status="failed",
                ticket=None,
                error_code="interrupted",
                error_message=f"interrupted {max_attempts} times: replicas or stores failed",
                **_ended(keep_s),
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
        over = or_(VideoJob.deleted, VideoJob.expires_at <= now())
        with Session(self._engine) as session:
            return list(session.scalars(select(VideoJob.id).where(over).limit(limit)))

    def forget(self, job_id: str) -> None:
        """Remove the record of a job whose files are removed."""
        self._change(delete(VideoJob).where(VideoJob.id == job_id))

    def _report(self, ticket: str, /, **values: Any) -> bool:
        return self._change(_held(ticket).values(**values)) == 1

    def _change(self, statement: Any) -> int:
        # A transaction that is over with its statement: whoever is stopped in the middle of one,
        # before its commit, holds its locks, on SQLite that of the whole database.
        with self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            return _rows_changed(connection, statement)

    def _change_all(self, statements: Iterable[Any]) -> list[int]:
        """Execute in one transaction; gives how many rows each changed."""
        with self._engine.begin() as connection:
            return [_rows_changed(connection, statement) for statement in statements]

    def _read(self, query: Any) -> list[VideoJob]:
        with Session(self._engine, expire_on_commit=False) as session:
            return list(session.scalars(query))


def _rows_changed(connection: Connection, statement: Any) -> int:
    # Without the option an insert counts no rows on PostgreSQL.
    done: CursorResult[Any] = connection.execute(
        statement.execution_options(preserve_rowcount=True)
    )
    return done.rowcount


def _visible(owner: str | None = None) -> list[Any]:
    """Not deleted, not expired, and of the owner if one is given."""
    alive = or_(VideoJob.expires_at.is_(None), VideoJob.expires_at > now())
    whose = [] if owner is None else [VideoJob.owner == owner]
    return [VideoJob.deleted.is_(False), alive, *whose]


def _freed_key(job: VideoJob) -> Any:
    """An update that takes the key of a job from one that is over but not swept up yet."""
    same = (VideoJob.owner == job.owner, VideoJob.idempotency_key == job.idempotency_key)
    return update(VideoJob).where(*same, not_(and_(*_visible()))).values(idempotency_key=None)


def _valid(*tickets: str) -> list[Any]:
    """Of a ticket that is not void."""
    return [*_visible(), VideoJob.ticket.in_(tickets), VideoJob.status == "in_progress"]


def _held(*tickets: str) -> Any:
    """An update of the jobs of those tickets that are not void."""
    return update(VideoJob).where(*_valid(*tickets))


def _due() -> list[Any]:
    """Queued and not at rest, or given to somebody who has fallen silent."""
    return [VideoJob.status.in_(UNFINISHED), VideoJob.lease_until <= now()]


def _ended(keep_s: float) -> dict[str, Any]:
    return {"completed_at": now(), "expires_at": now() + keep_s}


def _next_turn(owner: str) -> Any:
    """The turn of the owner's next job: the owners' jobs alternate, however many each has.

    It is start-time fair queueing (Goyal, Vin, Cheng 1996): the turn after that of the owner's last
    job, and for whoever has none the one that is at present.
    """
    unfinished = (*_visible(), VideoJob.status.in_(UNFINISHED))
    own = select(func.max(VideoJob.turn) + 1).where(*unfinished, VideoJob.owner == owner)
    waiting = select(func.min(VideoJob.turn)).where(*_visible(), VideoJob.status == "queued")
    running = select(func.max(VideoJob.turn)).where(*_visible(), VideoJob.status == "in_progress")
    following = own.scalar_subquery()
    present = func.coalesce(waiting.scalar_subquery(), running.scalar_subquery(), 0)
    return case((following > present, following), else_=present)
