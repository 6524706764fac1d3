"""Send a deploy config to a cluster, as `serve deploy` does, once no secret stands in it.

What a cluster has been sent stands in its logs, so that it is too late to refuse it there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.exceptions import AuthenticationError
from ray.serve.schema import ServeDeploySchema

from pipelines.mistakes import first_mistake
from pipelines.records import one_line
from pipelines.running.cluster_token import explained
from pipelines.running.job_error import JobError
from serve.secret_files import check_environment, check_url

IMPORT_PATH = "serve.app:app"
URLS = ("model", "store", "results")


def read_config(path: str) -> dict[str, Any]:
    """A deploy config without secrets.

    Raises:
        ValueError: for the first mistake, in one line.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        config = ServeDeploySchema.model_validate(found)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_mistake(error, '{}: ...')}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    for application in config.applications:
        check_environment(application.runtime_env.get("env_vars") or {})
        for deployment in application.deployments:
            options = deployment.model_dump(exclude_unset=True).get("ray_actor_options") or {}
            check_environment((options.get("runtime_env") or {}).get("env_vars") or {})
        if application.import_path == IMPORT_PATH:
            for key in URLS:
                check_url(key, str(application.args.get(key, "")))
    sent: dict[str, Any] = config.model_dump(exclude_unset=True)
    return sent


def deploy(path: str) -> None:
    """Send a config to the cluster whose dashboard `RAY_DASHBOARD_ADDRESS` names.

    Raises:
        ValueError: if something is wrong with the config.
        JobError: if the cluster does not take it.
    """
    config = read_config(path)
    address = os.environ.get("RAY_DASHBOARD_ADDRESS", "http://localhost:8265")
    try:
        ServeSubmissionClient(address).deploy_applications(config)
    except AuthenticationError as error:
        raise JobError(f"the cluster at {address} refuses: {explained(error)}") from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise JobError(
            f"the cluster at {address} cannot be reached: {one_line(error)}; name its dashboard in "
            "RAY_DASHBOARD_ADDRESS"
        ) from error
    print(f"sent to {address}; `serve status` tells how it goes", flush=True)
