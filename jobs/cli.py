"""Configuration of every job: command line over environment over YAML file over defaults."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn, TypeVar

import fsspec
import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from pipelines.mistakes import first_mistake

Model = TypeVar("Model", bound=BaseModel)


def load(model: type[Model], job: str, arguments: list[str] | None = None) -> Model:
    """Read a job's settings, or end the process with code 2 and one line that names the key.

    Args:
        model: the pydantic model of the keys.
        job: the job's name, and a subcommand's after a space; environment variables start with
            `HANDI_` and the last of these.
        arguments: of the command line, default `sys.argv[1:]`: `--key value` for each key with
            `-` for `_`, and `--config URL` for a YAML file of keys.
    """
    config, rest = _config(sys.argv[1:] if arguments is None else arguments)
    from_file = _read_yaml(config, model) if config else {}
    words = job.split()
    prefix = f"HANDI_{words[-1].upper()}_"
    for name in os.environ:
        if name.startswith(prefix) and name.removeprefix(prefix).lower() not in model.model_fields:
            stop(f"{name}: no such key (an environment variable); --help lists them")
    prog = " ".join([f"jobs/{words[0]}.py", *words[1:], "[--config FILE.yaml]"])

    class Settings(model, BaseSettings):  # type: ignore[valid-type, misc]
        # The first thing that --help shows: what the job does, and the ways to start it.
        __doc__ = sys.modules["__main__"].__doc__
        model_config = SettingsConfigDict(
            extra="forbid",
            env_prefix=prefix,
            cli_prog_name=prog,
            cli_exit_on_error=False,
            cli_kebab_case=True,
            cli_implicit_flags=True,
            cli_avoid_json=True,
            cli_hide_none_type=True,
            cli_parse_none_str="null",
            env_parse_none_str="null",
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            line: Any = CliSettingsSource(settings_cls, cli_parse_args=rest)
            return line, env_settings, InitSettingsSource(settings_cls, from_file)

    try:
        settings = Settings()
    except ValidationError as error:
        stop(first_mistake(error, "--{}"))
    except SettingsError as error:
        stop(str(error).splitlines()[-1].removeprefix("error parsing CLI: "))
    return model.model_validate(settings.model_dump())


def recipe(arguments: list[str] | None = None) -> str | None:
    """The name of the file of keys that a job was started with, None where there is none.

    Args:
        arguments: of the command line, default `sys.argv[1:]`.
    """
    config, _ = _config(sys.argv[1:] if arguments is None else arguments)
    return config.rsplit("/", 1)[-1].rsplit(".", 1)[0] if config else None


def stop(message: str) -> NoReturn:
    """End the process over a user's mistake: one line, no traceback, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _config(arguments: list[str]) -> tuple[str | None, list[str]]:
    """What stands for `--config`, and the other arguments."""
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    before.add_argument("--config")
    config, rest = before.parse_known_args(arguments)
    return config.config, rest


def _read_yaml(url: str, model: type[BaseModel]) -> dict[str, Any]:
    try:
        with fsspec.open(url, "rt") as file:
            values = yaml.safe_load(file) or {}
    except Exception as error:
        stop(f"config: {url} cannot be read: {str(error).splitlines()[0]}")
    if not isinstance(values, dict):
        stop(f"config: {url} must hold keys and values")
    for key in values:
        if key not in model.model_fields:
            stop(f"{key}: no such key (in {url}); --help lists them")
    return values
