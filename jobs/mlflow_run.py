"""What an MLflow run is told at its beginning and its end, each in calls that may be repeated."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)
from requests import HTTPError

REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_IMPLEMENTED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""MLflow's error codes that trying again does not cure."""
CURABLE_HTTP = {401, 403, 404, 408, 429}
"""Of the client errors: tokens are renewed, and a proxy's server comes back."""
END_S = 5.0
"""What a job that is interrupted gives a store to take an end."""
RESUMED = "resumed."
"""Begins the tags of what a run that goes on was given anew."""


@dataclass(frozen=True)
class RunHead:
    """What a run begins with.

    Attributes:
        params: flat, see `flat`.
        run_id: of a run to go on in.
        datasets: that go into the run.
    """

    experiment: str
    run_name: str
    params: dict[str, str]
    tags: dict[str, str]
    run_id: str | None
    datasets: tuple[DatasetInput, ...] = ()


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as MLflow takes them: keys joined by dots, values cut to its limit."""
    pairs: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            pairs |= flat(value, f"{prefix}{name}.")
        else:
            pairs[f"{prefix}{name}"] = str(value)[:MAX_PARAM_VAL_LENGTH]
    return pairs


def may_pass(error: BaseException) -> bool:
    """Whether what the store could not take now it may take later."""
    if isinstance(error, HTTPError) and error.response is not None:
        code = error.response.status_code
        return code >= 500 or code in CURABLE_HTTP
    if isinstance(error, MlflowException):
        return error.error_code not in REFUSALS
    return not isinstance(error, FileNotFoundError)


def begin_run(client: MlflowClient, head: RunHead) -> str:
    """Go on in the run that `head` names, or create one where the store has none; gives its id."""
    if head.run_id and _go_on(client, head.run_id):
        return head.run_id
    found = client.get_experiment_by_name(head.experiment)
    if found is None:
        try:
            client.create_experiment(head.experiment)
        except MlflowException as error:
            # Another process may have been faster.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(head.experiment)
        assert found is not None
    run = client.create_run(found.experiment_id, tags=head.tags, run_name=head.run_name)
    return str(run.info.run_id)


def describe_run(client: MlflowClient, run_id: str, head: RunHead) -> None:
    """Set the parameters, tags and data sets of a run, as far as they are not set.

    A parameter cannot be changed, and a tag must not hide what the run began with: what a run that
    goes on was given anew stands in tags whose names begin with `resumed.`.
    """
    data = client.get_run(run_id).data
    params = [Param(k, v) for k, v in head.params.items() if k not in data.params]
    tags = [RunTag(k, v[:MAX_TAG_VAL_LENGTH]) for k, v in head.tags.items() if k not in data.tags]
    before = {**data.params, **data.tags}
    for name, value in {**head.params, **head.tags}.items():
        last = data.tags.get(RESUMED + name, before.get(name, value))
        if value != last:
            tags.append(RunTag(RESUMED + name, value[:MAX_TAG_VAL_LENGTH]))
    for first in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run_id, params=params[first : first + MAX_PARAMS_TAGS_PER_BATCH])
    for first in range(0, len(tags), MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run_id, tags=tags[first : first + MAX_PARAMS_TAGS_PER_BATCH])
    if head.datasets:  # one of the same name and digest is not taken twice
        client.log_inputs(run_id, list(head.datasets))


def unused_model_path(client: MlflowClient, run_id: str) -> PurePosixPath:
    """Where in a run's artifacts its next model goes: not over one that is registered."""
    registered = len(client.search_model_versions(f"run_id = '{run_id}'"))
    return PurePosixPath(f"model-{registered + 1}" if registered else "model")


def register_version(client: MlflowClient, run_id: str, name: str, path: PurePosixPath) -> None:
    """Make artifacts of a run a new version of a registered model, once."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{path}"
    # An answer that was lost must not make a second one.
    if all(known.source != source for known in client.search_model_versions(f"name = '{name}'")):
        client.create_model_version(name, source, run_id=run_id)


def end_nested_runs(uri: str, parent_run_id: str, status: str) -> None:
    """Give the runs that are nested in one, and still go on, their end; waits some seconds only."""

    def end() -> None:
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_run(parent_run_id).info.experiment_id
        nested = f"tags.`mlflow.parentRunId` = '{parent_run_id}' and status = 'RUNNING'"
        for run in client.search_runs([experiment], nested):
            client.set_terminated(run.info.run_id, status)

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    thread.join(END_S)


def _go_on(client: MlflowClient, run_id: str) -> bool:
    try:
        if client.get_run(run_id).info.lifecycle_stage == "deleted":
            return False
        client.update_run(run_id, status="RUNNING")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return False
    return True
