"""What the service checks before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from serve.app import absolute_store, app, checked
from serve.http.keys import VARIABLE, fingerprint


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    new_pipeline(ModelConfig.of("tiny")).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder of one's own, and no keys in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def test_only_the_replicas_that_hold_the_model_wait_for_its_libraries():
    program = (
        "import sys, serve.http.gateway, serve.sweeper\n"
        "print(*{'torch', 'diffusers'} & set(sys.modules), sep=',')\n"
        "import serve.app\n"
        "print('diffusers' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "\nFalse\n", ran.stderr


def test_every_place_becomes_absolute(here, model):
    arguments = {"model": os.path.relpath(model), "num_gpus": "0"}
    settings, saved, keys = checked(arguments)
    assert settings.model == saved.url
    assert saved.url.startswith("file:///") and Path(saved.url.removeprefix("file://")).samefile(
        model
    )
    assert settings.results == f"file://{here}/out/serve/results"
    assert settings.store == f"sqlite:///{here}/out/serve/jobs.db"
    assert (here / "out/serve/jobs.db").exists()
    assert keys == []


def test_the_model_says_what_it_is(here, model):
    _, saved, _ = checked({"model": model, "num_gpus": "0"})
    assert (saved.resolution, saved.pixel_multiple, saved.num_frames) == (64, 16, 16)
    assert saved.tokenizer and saved.longest_prompt > 2


def test_gpus_are_asked_for_where_there_are_any(here, model, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert checked({"model": model})[0].num_gpus == 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert checked({"model": model})[0].num_gpus == 0
    assert checked({"model": model, "num_gpus": "0.5"})[0].num_gpus == 0.5


def test_keys_come_from_the_environment(here, model, monkeypatch):
    monkeypatch.setenv(VARIABLE, "first,second")
    keys = checked({"model": model, "num_gpus": "0"})[2]
    assert keys == [fingerprint("first"), fingerprint("second")]


def test_keys_come_from_a_file_and_fingerprints_from_the_config(here, model):
    Path("keys").write_text("first\n")
    given = {"api_keys_file": "keys", "api_key_fingerprints": fingerprint("second")}
    settings, _, keys = checked({"model": model, "num_gpus": "0", **given})
    assert set(keys) == {fingerprint("first"), fingerprint("second")}
    assert settings.api_keys_file == str(here / "keys"), "other nodes have another folder"


@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("sqlite:///jobs.db", "sqlite:///{here}/jobs.db"),
        ("sqlite:///../jobs.db", "sqlite:///{above}/jobs.db"),
        ("sqlite:////var/jobs.db", "sqlite:////var/jobs.db"),
        ("postgresql+psycopg://u:p@host/jobs", "postgresql+psycopg://u:p@host/jobs"),
    ],
)
def test_a_relative_store_is_made_absolute(here, url, absolute):
    assert absolute_store(url) == absolute.format(here=here, above=here.parent)


def test_a_relative_store_with_a_driver_is_made_absolute(here):
    assert absolute_store("sqlite+pysqlite:///jobs.db") == f"sqlite+pysqlite:///{here}/jobs.db"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"model": None}, "model: needed; give model=..."),
        ({"model": "no/such/folder"}, "model: no/such/folder is no saved pipeline"),
        ({"model": "."}, "model: . is no saved pipeline"),
        ({"model": "nothing://folder"}, "model: nothing://folder is no saved pipeline"),
        ({"batch_sise": "8"}, "batch_sise: no such key"),
        ({"batch_size": "0"}, "batch_size: Input should be greater"),
        ({"max_frames": "8"}, "max_frames: 8 is less than the model's own 16"),
        ({"max_pixels": "99"}, "max_pixels: 99 is less than the model's own 4096"),
        ({"results": "/dev/null/results"}, "results: /dev/null/results cannot be written: "),
        ({"results": "nothing://folder"}, "results: nothing://folder cannot be written: "),
        ({"store": "jobs.db"}, "store: not a database URL: "),
        ({"store": "sqlite:////dev/null/jobs.db"}, "store: sqlite:////dev/null/jobs.db: "),
        ({"store": "postgresql+psycopg://u@127.0.0.1:1/jobs"}, "store: postgresql+psycopg://u@"),
        ({"store": "postgresql://u:secret@host/jobs"}, "store: the URL holds a password"),
        ({"store": "postgresql://u@host/jobs?password=secret"}, "store: the URL holds a password"),
        ({"results": "sftp://u:secret@host/videos"}, "results: the URL holds a password"),
        ({"model": "sftp://u:secret@host/model"}, "model: the URL holds a password"),
        (
            {"store": "postgresql://u@host/jobs", "store_password_file": "/no/such"},
            "store: postgresql://u@host/jobs: store_password_file: /no/such cannot be read: ",
        ),
        ({"api_keys_file": "/no/such"}, "api_keys_file: /no/such cannot be read: No such file"),
        ({"api_key_fingerprints": "secret"}, "api_key_fingerprints: 64 hexadecimal digits each"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(here, model, arguments, line):
    given = {"model": model, "num_gpus": "0", **arguments}
    with pytest.raises(ValueError) as refused:
        checked({key: value for key, value in given.items() if value is not None})
    message = str(refused.value)
    assert message.startswith(line)
    assert "\n" not in message and "secret" not in message


def test_an_empty_list_of_keys_does_not_open_the_service(here, model, monkeypatch):
    monkeypatch.setenv(VARIABLE, " , ")
    with pytest.raises(ValueError, match=f"^{VARIABLE}: set, but without a key"):
        checked({"model": model, "num_gpus": "0"})


def test_a_mistake_ends_the_command_with_its_line_and_code_2(here, capsys):
    with pytest.raises(SystemExit) as ended:
        app({"batch_size": "8"})
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: model: needed; give model=...\n"
