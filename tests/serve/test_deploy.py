"""A deploy config is looked through before it leaves the machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.exceptions import AuthenticationError

from serve import __main__ as command
from serve import deploy
from serve.deploy import read_config
from serve.settings import ServeSettings

SHIPPED = Path(__file__).parents[2] / "infra" / "serve.yaml"


def config(tmp_path: Path, **application: Any) -> str:
    file = tmp_path / "serve.yaml"
    found = {"name": "handi", "import_path": "serve.app:app", **application}
    file.write_text(yaml.safe_dump({"applications": [found]}))
    return str(file)


def test_the_config_that_ships_is_taken_and_names_keys_that_there_are():
    (application,) = read_config(str(SHIPPED))["applications"]
    settings = ServeSettings.model_validate(application["args"])
    assert settings.api_keys_file and settings.store_password_file
    assert "runtime_env" not in application


HIDDEN = {"env_vars": {"PGPASSWORD": "hidden"}}


@pytest.mark.parametrize(
    ("application", "line"),
    [
        ({"runtime_env": HIDDEN}, "env_vars: PGPASSWORD holds a secret"),
        (
            {"deployments": [{"name": "Gateway", "ray_actor_options": {"runtime_env": HIDDEN}}]},
            "env_vars: PGPASSWORD holds a secret",
        ),
        ({"args": {"store": "postgresql://u:hidden@host/jobs"}}, "store: the URL holds a password"),
        ({"args": {"results": "sftp://u:hidden@host/jobs"}}, "results: the URL holds a password"),
    ],
)
def test_a_secret_in_it_is_refused_before_it_is_sent(
    tmp_path, monkeypatch, capsys, application, line
):
    monkeypatch.setattr(deploy, "ServeSubmissionClient", lambda _: pytest.fail("it was sent"))
    monkeypatch.setattr(sys, "argv", ["serve", "deploy", config(tmp_path, **application)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith(f"error: {line}") and told.count("\n") == 1 and "hidden" not in told


@pytest.mark.parametrize("text", ["[", "applications: 5", "aplications: []", "5"])
def test_what_is_no_config_is_one_line_that_names_the_file(tmp_path, text):
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"^{file}: ") as error:
        read_config(str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (AuthenticationError("Authentication failed: Forbidden\n\nwrong"), "RAY_AUTH_TOKEN"),
        (ConnectionError("Failed to connect to Ray at address: x"), "RAY_DASHBOARD_ADDRESS"),
        (RuntimeError("Request failed with status code 400: Trace\nback"), "400"),
    ],
)
def test_a_cluster_that_refuses_is_one_line(tmp_path, monkeypatch, error, line):
    def refusing(_: str) -> None:
        raise error

    monkeypatch.setattr(deploy, "ServeSubmissionClient", refusing)
    with pytest.raises(deploy.JobError, match=line) as told:
        deploy.deploy(config(tmp_path))
    assert "\n" not in str(told.value)


def test_a_config_is_sent_as_it_stands(tmp_path, monkeypatch, capsys):
    sent = []

    class Client:
        def __init__(self, address: str) -> None:
            assert address == "http://head:8265"

        def deploy_applications(self, config: dict[str, Any]) -> None:
            sent.append(config)

    monkeypatch.setenv("RAY_DASHBOARD_ADDRESS", "http://head:8265")
    monkeypatch.setattr(deploy, "ServeSubmissionClient", Client)
    deploy.deploy(config(tmp_path, args={"model": "s3://bucket/model"}))
    assert sent[0]["applications"][0]["args"] == {"model": "s3://bucket/model"}
    assert "serve status" in capsys.readouterr().out
