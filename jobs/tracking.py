"""Where MLflow is, what the code stands at, and the report of a job that has ended."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import closing
from numbers import Real
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from pipelines.records import one_line
from pipelines.storage import read_bytes


def track_run(
    experiment: str, settings: BaseModel, results: dict[str, Any], artifacts: Iterable[str]
) -> None:
    """Log settings as parameters, numbers among the results as metrics, and files as artifacts.

    Nothing happens unless `MLFLOW_TRACKING_URI` is set.

    Args:
        results: nested dicts become metric names joined by a slash.
        artifacts: URLs.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return
    import mlflow

    mlflow.set_experiment(f"handi-{experiment}")
    with mlflow.start_run():
        try:
            mlflow.log_params(settings.model_dump())
            mlflow.log_metrics(dict(_numbers(results)))
            with tempfile.TemporaryDirectory() as folder:
                for url in artifacts:
                    file = Path(folder) / url.rsplit("/", 1)[-1]
                    file.write_bytes(read_bytes(url))
                    mlflow.log_artifact(str(file))
        except KeyboardInterrupt:
            mlflow.end_run("KILLED")  # it would call itself failed
            raise


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or `mlflow.db` in the working folder: `mlflow ui` there opens it."""
    file = str(Path("mlflow.db").absolute()).replace("%", "%25").replace("?", "%3F")
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{file}"


def without_password(uri: str) -> str:
    """A URI, or what is said of one, as it may be shown."""
    return re.sub(r"//[^/@\s]*@", "//***@", uri)


def check_uri(uri: str) -> None:
    """Look at a store's URI before a server is asked, which may be down.

    Raises:
        ValueError: where there can be no store at it, in one line.
    """
    from mlflow import MlflowClient
    from mlflow.store.db.db_types import DATABASE_ENGINES
    from mlflow.utils.uri import get_uri_scheme
    from sqlalchemy import make_url

    try:
        scheme = get_uri_scheme(uri)
        if scheme in ("http", "https"):
            if not urlsplit(uri).hostname:
                raise ValueError("names no host; http://HOST:PORT is expected")
        elif scheme in DATABASE_ENGINES:
            url = make_url(uri)
            url.get_dialect().import_dbapi()
            if scheme == "sqlite":
                if url.host:
                    raise ValueError("names a host; sqlite:////PATH is expected")
                # MLflow itself tries for minutes to open what cannot be opened.
                file = Path(url.database or "")
                file.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(file)) as database:
                    database.execute("PRAGMA schema_version")
        else:
            MlflowClient(tracking_uri=uri)
    except Exception as error:  # each of the libraries has its own
        where = f"MLFLOW_TRACKING_URI: {without_password(uri)}"
        raise ValueError(f"{where}: {without_password(one_line(error))}") from None


def git_commit() -> str | None:
    """The commit that the code stands at, None where git does not know the code."""
    # Installed into an environment inside of somebody's repository, it is not of that repository.
    known = _git("ls-files", "--error-unmatch", Path(__file__).name)
    commit = _git("rev-parse", "HEAD") if known else None
    return commit.strip() if commit else None


def git_dirty() -> bool:
    """Whether files that git knows differ from the commit."""
    return bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, Real) and not isinstance(value, bool):
            yield prefix + name, float(value)
