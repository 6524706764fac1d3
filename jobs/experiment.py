"""One MLflow run, told from a thread: a server that is down delays the record, not the training.

Without `MLFLOW_TRACKING_URI` the store is `mlflow.db` in the working folder, which `mlflow ui`
opens from there.
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from pipelines.records import one_line

PARAMS_A_CALL = 100
GONE_WITH = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
"""MLflow's error codes that trying again does not cure."""


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"


def git_commit() -> str | None:
    """The commit that the code stands at, None where there is no git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


class Experiment:
    """A run whose records wait in memory until the store has taken them, in order.

    Attributes:
        uri: of the store.
        run_id: None until the store has answered.
    """

    def __init__(self, uri: str) -> None:
        # MLflow itself would try for minutes inside of one call, which could not be given up.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self.uri = uri
        self.run_id: str | None = None
        for talkative in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(talkative).setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=uri)
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._begun = threading.Event()
        self._warned = False
        self._give_up_at: float | None = None
        self._lost = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    @classmethod
    def start(
        cls,
        experiment: str,
        run_name: str,
        params: dict[str, Any],
        tags: dict[str, str],
        run_id: str | None = None,
        parent_run_id: str | None = None,
    ) -> Experiment:
        """Begin a run, or go on in one; returns at once.

        Args:
            params: nested ones get their keys joined by dots.
            run_id: of the run to go on in; where the store does not know it, a new one is begun.
            parent_run_id: of the run that this one is nested in.

        Raises:
            ValueError: if there can be no store at such a URI, in one line.
        """
        uri = tracking_uri()
        try:
            self = cls(uri)
        except Exception as error:  # MLflow says it with several types
            raise ValueError(f"MLFLOW_TRACKING_URI: {uri}: {one_line(error)}") from None
        if parent_run_id:
            tags = {**tags, "mlflow.parentRunId": parent_run_id}
        flat = dict(_flat(params))
        self._waiting.put(lambda: self._begin(experiment, run_name, flat, tags, run_id))
        self._thread.start()
        return self

    def wait_for_run(self, timeout_s: float | None = None) -> str | None:
        """The run's id as soon as the store has answered, None after so long."""
        self._begun.wait(timeout_s)
        return self.run_id

    def log_metrics(self, step: int, values: dict[str, float]) -> None:
        """Track numbers; those that are not finite say nothing and are left out."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, float(value), now, step)
            for name, value in values.items()
            if float("-inf") < value < float("inf")
        ]
        for first in range(0, len(metrics), MAX_METRICS_PER_BATCH):
            self._waiting.put(partial(self._send, metrics[first : first + MAX_METRICS_PER_BATCH]))

    def log_bytes(self, path: str, data: bytes) -> None:
        """Keep a file as an artifact."""
        folder, _, name = path.rpartition("/")

        def send() -> None:
            with tempfile.TemporaryDirectory() as scratch:
                (Path(scratch) / name).write_bytes(data)
                self._client.log_artifact(self._run_id(), f"{scratch}/{name}", folder or None)

        self._waiting.put(send)

    def register_model(self, folder: Path, name: str) -> None:
        """Keep a model's folder as artifact `model`, and register it as a new version of `name`.

        The folder must stay until `close`. `mlflow.artifacts.download_artifacts("models:/NAME/1")`
        gives it back.
        """

        def register() -> None:
            self._client.log_artifacts(self._run_id(), str(folder), "model")
            try:
                self._client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = f"{self._client.get_run(self._run_id()).info.artifact_uri}/model"
            self._client.create_model_version(name, source, run_id=self._run_id())

        self._waiting.put(register)

    def close(self, status: str = "FINISHED", timeout_s: float = 60) -> int:
        """Send what still waits, and end the run.

        Args:
            timeout_s: after which a store that does not answer is given up.

        Returns:
            How many records could not be sent.
        """
        self._waiting.put(lambda: self._client.set_terminated(self._run_id(), status))
        self._waiting.put(None)
        self._give_up_at = time.monotonic() + timeout_s
        self._thread.join(timeout_s + 30)
        return self._lost

    def _send(self, metrics: list[Metric]) -> None:
        self._client.log_batch(self._run_id(), metrics=metrics)

    def _run_id(self) -> str:
        if self.run_id is None:
            raise RuntimeError("the run could not be begun")
        return self.run_id

    def _begin(
        self,
        experiment: str,
        run_name: str,
        params: dict[str, str],
        tags: dict[str, str],
        run_id: str | None,
    ) -> None:
        if self.run_id is None and run_id and self._known(run_id):
            self._client.update_run(run_id, status="RUNNING")
            self.run_id = run_id
        if self.run_id is None:
            found = self._client.get_experiment_by_name(experiment)
            experiment_id = (
                found.experiment_id if found else self._client.create_experiment(experiment)
            )
            run = self._client.create_run(experiment_id, tags=tags, run_name=run_name)
            self.run_id = run.info.run_id
        # Here again where the store went away in between.
        run_id = self.run_id
        before = self._client.get_run(run_id).data.params
        new = [Param(k, v) for k, v in params.items() if k not in before]
        for first in range(0, len(new), PARAMS_A_CALL):
            self._client.log_batch(run_id, params=new[first : first + PARAMS_A_CALL])
        # A parameter cannot be changed; what a resumed training was given anew stands in a tag.
        changed = {k: v for k, v in params.items() if before.get(k, v) != v}
        self._client.log_batch(run_id, tags=[RunTag(f"resumed.{k}", v) for k, v in changed.items()])
        self._begun.set()

    def _known(self, run_id: str) -> bool:
        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def _run(self) -> None:
        while (send := self._waiting.get()) is not None:
            if self._lost and self._given_up():
                self._lost += 1
                continue
            try:
                for attempt in Retrying(
                    retry=retry_if_exception(_may_pass),
                    wait=wait_exponential(max=10),
                    stop=self._given_up,
                    before_sleep=self._warn,
                    reraise=True,
                ):
                    with attempt:
                        send()
            except Exception as error:
                self._lost += 1
                if not _may_pass(error):
                    print(f"tracking: {self.uri} refuses: {one_line(error)}", file=sys.stderr)
            else:
                if self._warned:
                    self._warned = False
                    print(f"tracking: {self.uri} answers again", file=sys.stderr)
        self._begun.set()

    def _given_up(self, state: RetryCallState | None = None) -> bool:
        return self._give_up_at is not None and time.monotonic() > self._give_up_at

    def _warn(self, state: RetryCallState) -> None:
        if not self._warned and state.outcome is not None:
            self._warned = True
            error = state.outcome.exception()
            assert isinstance(error, Exception)
            print(
                f"tracking: {self.uri} does not answer ({one_line(error)[:200]}); "
                "what there is to record waits",
                file=sys.stderr,
            )


def _may_pass(error: BaseException) -> bool:
    return not (isinstance(error, MlflowException) and error.error_code in GONE_WITH)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            pairs.append((prefix + name, str(value)[:MAX_PARAM_VAL_LENGTH]))
    return pairs
