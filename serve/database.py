"""The database of the job records, opened so that several processes may work on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import DDL, Engine, Float, Table, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.functions import FunctionElement
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from pipelines.records import one_line
from pipelines.storage import make_private
from serve.records import Base
from serve.secret_files import read_secret

LOST_HOST = {"connect_timeout": 10, "keepalives_idle": 10, "tcp_user_timeout": 20000}
"""For PostgreSQL: a host that vanishes without a word is given up within 20 seconds."""

SILENT_CLIENT_S = 10
"""For PostgreSQL: a transaction in which nothing comes for so long is undone."""


class now(FunctionElement[float]):  # stands in statements as a function does
    """The database's own clock, Unix seconds: machines that share it need not agree on the time."""

    type = Float()
    inherit_cache = True


@compiles(now, "sqlite")
def _(element: Any, compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _(element: Any, compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) AS DOUBLE PRECISION)"


def open_database(url: str, password_file: str | None = None) -> Engine:
    """Open a database; a missing SQLite file, for its owner alone, missing tables and
    columns are made.

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
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError("jobs are kept in SQLite or PostgreSQL")
    if parsed.get_backend_name() != "sqlite":
        patience = LOST_HOST if parsed.get_driver_name() == "psycopg" else {}
        engine = create_engine(parsed, pool_pre_ping=True, connect_args=patience)

        @event.listens_for(engine, "connect")
        def silent_clients(connection: Any, _: Any) -> None:
            # Whoever is stopped in the middle of a transaction does not keep its locks.
            with connection.cursor() as cursor:
                cursor.execute(f"SET idle_in_transaction_session_timeout = '{SILENT_CLIENT_S}s'")
            connection.commit()

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


# Again, for somebody else may create the same between the look and the creation.
@retry(retry=retry_if_exception_type(SQLAlchemyError), stop=stop_after_attempt(5), reraise=True)
def _create_tables(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    for table in Base.metadata.sorted_tables:
        _add_columns(engine, table)
        for index in table.indexes:
            index.create(engine, checkfirst=True)


def _add_columns(engine: Engine, table: Table) -> None:
    """Add what an earlier version of this program did not know; its rows have null there."""
    known = {column["name"] for column in inspect(engine).get_columns(table.name)}
    for column in table.columns:
        if column.name not in known:
            added = CreateColumn(column).compile(dialect=engine.dialect)
            with engine.begin() as connection:
                connection.execute(DDL(f"ALTER TABLE {table.name} ADD COLUMN {added}"))


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string()
    except (SQLAlchemyError, ValueError):
        return "not a database URL"
