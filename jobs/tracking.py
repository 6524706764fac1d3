"""Where MLflow is, what the code stands at, and the report of a job that has ended."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from numbers import Real
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from jobs.cli import recipe
from pipelines.records import one_line
from pipelines.storage import read_bytes


def track_run(
    experiment: str,
    settings: BaseModel,
    output: str,
    results: dict[str, Any],
    artifacts: Iterable[str],
) -> None:
    """Log settings as parameters, numbers among the results as metrics, and files as artifacts.

    Nothing happens unless `MLFLOW_TRACKING_URI` is set.

    Args:
        output: of the job, which the run is named after.
        results: nested dicts become metric names joined by a slash.
        artifacts: URLs.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return
    from jobs.experiment import Experiment  # imports MLflow, which takes seconds

    name, tags = run_name(output, recipe()), {"handi.output": output}
    with Experiment.start(f"handi-{experiment}", name, settings.model_dump(), tags) as run:
        run.log_metrics(0, dict(_numbers(results)))
        for url in artifacts:
            run.log_bytes(url.rsplit("/", 1)[-1], read_bytes(url))


def place(url: str) -> str:
    """The end of a path or URL, by which a person knows it: such as `demo/run`."""
    path = url.split("://", 1)[-1].strip("/")
    return "/".join(path.split("/")[-2:])


def run_name(output: str, made_by: str | None = None) -> str:
    """What a run is called: after its output and its recipe, such as `demo/run (tiny)`.

    Args:
        output: path or URL.
        made_by: name of the recipe, or of what else makes the run; None says nothing.
    """
    name = place(output)
    return f"{name} ({made_by.rstrip('/').rsplit('/', 1)[-1]})" if made_by else name


def source_tags() -> dict[str, str]:
    """MLflow's tags for the code that made a run: the job's file, and the commit if git knows it.

    MLflow sets the like itself only where a run is begun through its global state.
    """
    main = Path(sys.argv[0])
    job = main.resolve().parent == Path(__file__).resolve().parent
    tags = {
        "mlflow.source.name": f"jobs/{main.name}" if job else str(main),
        "mlflow.source.type": "LOCAL",
    }
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit
        tags["mlflow.source.git.dirty"] = str(git_dirty()).lower()
    return tags


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
