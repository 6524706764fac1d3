"""The database of the job records, opened so that several processes may work on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from pipelines.records import one_line
from pipelines.storage import make_private
from serve.records import Base
from serve.secret_files import read_secret

LOST_HOST = {"connect_timeout": 10, "keepalives_idle": 10, "tcp_user_timeout": 20000}
"""For PostgreSQL: a host that vanishes without a word is given up within 20 seconds."""


def open_database(url: str, password_file: str | None = None) -> Engine:
    """Open a database; a missing SQLite file, for its owner alone, and missing tables are made.

    Args:
        password_file: read at every new connection, so that the password may change meanwhile.

    Raises:
        ValueError: if that cannot be, in one line without the password.
    """
    try:
        engine = _engine(url, password_file)
        _create_tables(engine)
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        raise ValueError(f"store: {_without_password(url)}: {one_line(error)}") from None
    return engine


def _engine(url: str, password_file: str | None) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        patience = LOST_HOST if parsed.get_driver_name() == "psycopg" else {}
        engine = create_engine(parsed, pool_pre_ping=True, connect_args=patience)
        if password_file:

            @event.listens_for(engine, "do_connect")
            def with_password(_: Any, __: Any, ___: Any, arguments: dict[str, Any]) -> None:
                arguments["password"] = read_secret("store_password_file", password_file)

        return engine
    if parsed.database:
        _keep_private(Path(parsed.database))
    engine = create_engine(parsed, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def several_processes(connection: Any, _: Any) -> None:
        # Readers do not wait for the writer; what was committed outlives a loss of power.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _keep_private(database: Path) -> None:
    """Leave an SQLite file, which is made where it is missing, to its owner alone."""
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(database, os.O_CREAT | os.O_RDWR, 0o600))
    # SQLite gives what it makes beside it the same mode.
    for beside in ("", "-wal", "-shm", "-journal"):
        make_private(f"{database}{beside}")


@retry(retry=retry_if_exception_type(SQLAlchemyError), stop=stop_after_attempt(2), reraise=True)
def _create_tables(engine: Engine) -> None:
    # Twice, for somebody else may create them between the look and the creation.
    Base.metadata.create_all(engine)


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string()
    except (SQLAlchemyError, ValueError):
        return "not a database URL"
