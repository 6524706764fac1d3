"""On a shared machine, results and records are their owner's alone; secrets travel nowhere."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from pipelines.storage import writable
from serve.app import checked
from serve.database import _engine
from serve.files import JobFiles
from serve.http.keys import VARIABLE
from serve.secret_files import check_environment, read_secret
from serve.store import JobStore
from tests.serve.asking import created
from tests.serve.conftest import png


@pytest.fixture
def generous() -> Iterator[None]:
    """An umask that takes nothing from anybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_the_service_writes_is_its_owners_alone(client, services, generous):
    root = Path(writable(services.files.root, private=True).removeprefix("file://"))
    job = created(client, mask=png(mode="L"))
    assert mode(root) == mode(root / job["id"]) == 0o700
    files = list((root / job["id"]).iterdir())
    assert len(files) == 2
    assert {mode(file) for file in files} == {0o600}


def test_a_new_database_is_its_owners_alone(tmp_path, generous):
    store = JobStore(f"sqlite:///{tmp_path}/made/jobs.db")
    with store._engine.connect():
        found = {path.name: mode(path) for path in (tmp_path / "made").iterdir()}
    assert found == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600}
    assert mode(tmp_path / "made") == 0o700


def test_an_older_database_is_taken_from_others_when_it_is_opened(tmp_path):
    path = tmp_path / "jobs.db"
    with sqlite3.connect(path) as left_open:
        left_open.execute("PRAGMA journal_mode=WAL")
        left_open.execute("CREATE TABLE other (id)")
        left_open.commit()
        files = list(tmp_path.iterdir())
        assert len(files) == 3
        for file in files:
            file.chmod(0o644)
        before = mode(tmp_path)
        JobStore(f"sqlite:///{path}")
        assert {mode(file) for file in files} == {0o600}
        assert mode(tmp_path) == before, "the folder may hold other things"


def test_older_results_are_taken_from_others_and_nothing_else_is(tmp_path):
    job, other = tmp_path / "video_1", tmp_path / "holiday"
    for folder in (job, other):
        folder.mkdir()
        folder.chmod(0o755)
    JobFiles(f"file://{tmp_path}").keep_private()
    assert (mode(job), mode(other)) == (0o700, 0o755)
    JobFiles(f"file://{tmp_path}/missing").keep_private()
    JobFiles("memory://results").keep_private()


@pytest.mark.parametrize(
    "name",
    [
        *("HANDI_API_KEYS", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"),
        *("openai_api_key", "OPENAI_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "DB_PASS", "MYSQL_PWD"),
        *("AZURE_STORAGE_CONNECTION_STRING", "GOOGLE_CREDENTIALS_JSON", "SMTP_PASSWD"),
    ],
)
def test_a_secret_among_a_deploy_configs_variables_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"^env_vars: {name} holds a secret") as error:
        check_environment({"LANG": "C", name: "hidden"})
    assert "hidden" not in str(error.value)


def test_variables_that_only_say_where_a_secret_is_are_taken():
    for name in (
        *("PGPASSFILE", "RAY_AUTH_TOKEN_PATH", "AWS_WEB_IDENTITY_TOKEN_FILE", "RAY_AUTH_MODE"),
        *("TOKENIZERS_PARALLELISM", "AWS_ACCESS_KEY_ID", "GOOGLE_APPLICATION_CREDENTIALS"),
        *("PWD", "OLDPWD", "SIGNING_PUBLIC_KEY", "PROXY_BYPASS"),
    ):
        check_environment({name: "/run/a"})


def test_a_url_with_a_password_is_no_variable_either():
    for url in ("postgresql://me:hidden@host/jobs", "https://host/a?password=hidden"):
        with pytest.raises(ValueError, match=r"^env_vars: DATABASE_URL holds a secret") as error:
            check_environment({"DATABASE_URL": url})
        assert "hidden" not in str(error.value)
    for value in ("postgresql://me@host/jobs", "http://proxy:3128", "a:b@c", "", 1, None):
        check_environment({"DATABASE_URL": value})


def test_on_a_cluster_the_variables_are_those_of_the_deploy_config(monkeypatch):
    class Context:
        runtime_env = {"env_vars": {VARIABLE: "hidden"}}  # noqa: RUF012

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    with pytest.raises(ValueError, match=f"^env_vars: {VARIABLE} holds a secret.*api_keys_file"):
        checked({"model": "/model"})


def test_a_secret_is_read_without_the_line_end_behind_it(tmp_path):
    file = tmp_path / "secret"
    file.write_text("pass word\n")
    assert read_secret("key", str(file)) == "pass word"


@pytest.mark.parametrize(
    ("data", "why"), [(None, "No such file"), (b"", "empty"), (b"\xff", "not a text")]
)
def test_a_secret_that_cannot_be_had_is_told_by_its_key(tmp_path, data, why):
    file = tmp_path / "secret"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(ValueError, match=f"^store_password_file: {file}.*{why}"):
        read_secret("store_password_file", str(file))


def test_the_databases_password_is_what_its_file_holds_at_each_connection(tmp_path):
    file = tmp_path / "password"
    engine = _engine("postgresql+psycopg://u@host/jobs", str(file))
    for password in ("first", "second"):
        file.write_text(f"{password}\n")
        arguments: dict[str, str] = {}
        for listener in engine.dialect.dispatch.do_connect:  # as SQLAlchemy does before it connects
            listener(engine.dialect, None, [], arguments)
        assert arguments == {"password": password}
    assert "second" not in repr(engine) + str(engine.url)
