"""One MLflow run, told from a thread: a server that is down delays the record, not the training."""

from __future__ import annotations

import logging
import math
import os
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from numbers import Real
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import MAX_METRICS_PER_BATCH
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from jobs.mlflow_run import (
    RunHead,
    begin_run,
    describe_run,
    flat,
    may_pass,
    register_version,
    unused_model_path,
)
from jobs.tracking import check_uri, source_tags, tracking_uri, without_password
from pipelines.records import one_line

MAX_WAITING_BYTES = 512 * 2**20
"""Files that wait for a store; above it the oldest are given up."""
LONGEST_PAUSE_S = 10.0
PAUSE_WHEN_CLOSING_S = 0.5
CLOSE_INTERRUPTED_S = 5.0
"""Who sends a signal waits half a minute before a harder one."""
SLOWEST_UPLOAD = 2**20
"""Bytes a second: a file on its way is given as long as it would take at this pace."""


@dataclass
class _Model:
    """A model to register, and how far that has come."""

    folder: Path
    name: str
    path: PurePosixPath | None = None
    left: list[Path] | None = None


class Experiment:
    """A run whose records wait in memory until the store has taken them.

    What the store refuses for good (a name that may not be, a run deleted meanwhile) is said in one
    line and lost; anything else is tried again. Metrics do not wait for files, nor files for
    models: the store of artifacts may be down alone.

    Attributes:
        uri: of the store.
        run_id: None until the store has answered.
    """

    def __init__(self, uri: str, head: RunHead) -> None:
        # MLflow itself would try for minutes inside of one call, unheard.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        for talkative in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(talkative).setLevel(logging.WARNING)
        self.uri = uri
        self.run_id: str | None = None
        self._head = head
        self._metrics: deque[list[Metric]] = deque()
        self._files: deque[tuple[str, bytes]] = deque()
        self._models: deque[_Model] = deque()
        self._status: str | None = None
        self._lost = 0
        self._changed = threading.Condition()
        self._begun = False
        self._answered = threading.Event()
        self._closing = threading.Event()
        self._given_up = False
        self._over = False
        self._upload_s = 0.0
        self._taken_at = 0.0
        self._warned = False
        self._refusal = ""
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
        datasets: Iterable[DatasetInput] = (),
    ) -> Experiment:
        """Begin a run, or go on in one; returns at once.

        Args:
            params: nested ones get their keys joined by dots.
            tags: beside those that name the job and the commit of the code.
            run_id: of the run to go on in; where the store does not know it, a new one is begun.
            parent_run_id: of the run that this one is nested in.
            datasets: what the run learns from or measures with, see `dataset_input`.

        Raises:
            ValueError: if there can be no store at such a URI, in one line.
        """
        uri = tracking_uri()
        check_uri(uri)
        tags = {**source_tags(), **tags}
        if parent_run_id:
            tags["mlflow.parentRunId"] = parent_run_id
        head = RunHead(experiment, run_name, flat(params), tags, run_id, tuple(datasets))
        self = cls(uri, head)
        self._thread.start()
        return self

    def __enter__(self) -> Experiment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the run: as killed by a signal, failed by an exception, or finished."""
        if error is None:
            self.close()
        elif isinstance(error, KeyboardInterrupt):
            self.close("KILLED", timeout_s=CLOSE_INTERRUPTED_S)
        else:
            self.close("FAILED")

    def wait_for_run(self, timeout_s: float | None = None) -> str | None:
        """The run's id as soon as the store has answered, None after so long."""
        self._answered.wait(timeout_s)
        return self.run_id

    def log_metrics(self, step: int, values: dict[str, float]) -> None:
        """Track numbers; what is no finite number says nothing and is left out."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, float(value), now, step)
            for name, value in values.items()
            if isinstance(value, Real) and math.isfinite(value)
        ]
        for first in range(0, len(metrics), MAX_METRICS_PER_BATCH):
            self._put(self._metrics, metrics[first : first + MAX_METRICS_PER_BATCH])

    def log_bytes(self, path: str, data: bytes) -> None:
        """Keep a file as an artifact.

        Args:
            path: in the run's artifacts, such as `samples/epoch-0004/lift_box_1.mp4`.
        """
        self._put(self._files, (path, data))
        with self._changed:
            # The first may be on its way at this moment.
            while len(self._files) > 1 and self._waiting_bytes() > MAX_WAITING_BYTES:
                del self._files[1]
                self._lost += 1

    def register_model(self, folder: Path, name: str) -> None:
        """Keep a model's folder as artifact `model`, and register it as a new version of `name`.

        Where the run has registered one before, the new one lies in `model-2`, and so on. The
        folder must stay until `close`. `mlflow.artifacts.download_artifacts("models:/NAME/1")`
        gives it back.
        """
        self._put(self._models, _Model(folder, name))

    def flush(self, timeout_s: float) -> bool:
        """Wait until the store has taken all that was logged so far, False after so long."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting() and not self._over and time.monotonic() < deadline:
                self._changed.wait(0.1)
            return not self._waiting()

    def close(self, status: str = "FINISHED", timeout_s: float = 60) -> int:
        """Send what still waits, and end the run.

        Args:
            timeout_s: a store that has taken nothing for so long is given up; a file on its way
                has a second more for each MB of it.

        Returns:
            How many records could not be sent, which stands on stderr too; the run's beginning and
            its end count as one each.
        """
        with self._changed:
            self._status = status
            self._taken_at = time.monotonic()
            self._closing.set()
            self._changed.notify_all()
            while not self._over and time.monotonic() < self._taken_at + timeout_s + self._upload_s:
                self._changed.wait(0.1)
            self._given_up = True
            self._changed.notify_all()
            lost = self._lost + self._waiting()
        if lost:
            self._say(f"lacks {lost} of the run's records")
        return lost

    def _put(self, waiting: deque[Any], record: object) -> None:
        with self._changed:
            if self._over:
                self._lost += 1
                return
            waiting.append(record)
            self._changed.notify_all()

    def _waiting(self) -> int:
        logged = len(self._metrics) + len(self._files) + len(self._models)
        return (not self._begun) + logged + (self._status is not None)

    def _waiting_bytes(self) -> int:
        return sum(len(data) for _, data in self._files)

    def _run(self) -> None:
        retrying = Retrying(
            retry=retry_if_exception(may_pass),
            stop=lambda _: self._given_up,
            wait=wait_exponential(multiplier=0.5, max=LONGEST_PAUSE_S),
            sleep=self._pause,
            before_sleep=self._warn,
            reraise=True,
        )
        try:
            while not self._given_up and not (self._closing.is_set() and not self._waiting()):
                with self._changed:
                    self._changed.wait_for(lambda: self._given_up or self._waiting())
                retrying(self._send_all)
                if self._warned and not self._given_up:
                    self._warned = False
                    self._say("answers again")
        except Exception as error:
            if not self._given_up:
                self._say(f"refuses the run: {_why(error)}")
        finally:
            with self._changed:
                self._over = True
                self._answered.set()
                self._changed.notify_all()

    def _send_all(self) -> None:
        """Send what waits; what keeps some of it from being sent is raised after the rest was."""
        client = MlflowClient(tracking_uri=self.uri)
        ending = self._status
        if not self._begun:
            if self.run_id is None:
                self.run_id = begin_run(client, self._head)
            try:
                describe_run(client, self.run_id, self._head)
            except MlflowException as error:
                if may_pass(error):
                    raise
                self._refuse(error)
            self._begun = True
            self._answered.set()
        run_id = self.run_id
        assert run_id is not None
        failures = [
            self._drain(self._metrics, lambda: self._send_metrics(client, run_id)),
            self._drain(self._files, lambda: self._send_file(client, run_id)),
            self._drain(self._models, lambda: self._send_model(client, run_id)),
        ]
        if ending and not self._given_up and failures[0] is None:
            client.set_terminated(run_id, ending)
            self._status = None
        for failure in failures:
            if failure:
                raise failure

    def _drain(self, waiting: deque[Any], send: Callable[[], int]) -> Exception | None:
        """Call `send`, which gives how many of the first it has sent, until none waits."""
        while waiting and not self._given_up:
            try:
                sent = send()
            except Exception as error:
                if may_pass(error):
                    return error
                self._refuse(error)
                sent = 1
            with self._changed:
                for _ in range(sent):
                    waiting.popleft()
                self._taken_at = time.monotonic()
        return None

    def _send_metrics(self, client: MlflowClient, run_id: str) -> int:
        with self._changed:
            records = list(self._metrics)
        ends = accumulate(len(record) for record in records)
        count = max(1, sum(end <= MAX_METRICS_PER_BATCH for end in ends))
        try:
            client.log_batch(run_id, metrics=[one for record in records[:count] for one in record])
        except MlflowException as error:
            if count == 1 or may_pass(error):
                raise
            # One of them is refused, which must not cost the others.
            client.log_batch(run_id, metrics=records[0])
            return 1
        return count

    def _send_file(self, client: MlflowClient, run_id: str) -> int:
        path, data = self._files[0]
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / name
            file.write_bytes(data)
            self._upload(client, run_id, file, folder)
        return 1

    def _send_model(self, client: MlflowClient, run_id: str) -> int:
        model = self._models[0]
        if model.path is None:
            model.path = unused_model_path(client, run_id)
            model.left = [file for file in model.folder.rglob("*") if file.is_file()]
            if not model.left:
                raise FileNotFoundError(f"{model.folder}: no files to register as {model.name}")
        while model.left:
            below = model.left[-1].relative_to(model.folder).parent
            self._upload(client, run_id, model.left[-1], (model.path / below).as_posix())
            model.left.pop()
        register_version(client, run_id, model.name, model.path)
        return 1

    def _upload(self, client: MlflowClient, run_id: str, file: Path, folder: str) -> None:
        self._upload_s = file.stat().st_size / SLOWEST_UPLOAD
        try:
            client.log_artifact(run_id, str(file), folder or None)
        finally:
            self._upload_s = 0.0
        self._taken_at = time.monotonic()

    def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            time.sleep(min(seconds, PAUSE_WHEN_CLOSING_S))
        else:
            self._closing.wait(seconds)

    def _warn(self, state: RetryCallState) -> None:
        if not self._warned and state.outcome is not None:
            self._warned = True
            why = _why(state.outcome.exception())
            self._say(f"does not answer ({why}); training goes on, {self._waiting()} records wait")

    def _refuse(self, error: Exception) -> None:
        """Give up a record that the store will never take; says the same thing once."""
        with self._changed:
            self._lost += 1
        if not self._given_up and _why(error) != self._refusal:
            self._refusal = _why(error)
            self._say(f"refuses: {self._refusal}")

    def _say(self, what: str) -> None:
        print(f"tracking: {without_password(self.uri)} {what}", file=sys.stderr)


def _why(error: BaseException | None) -> str:
    assert isinstance(error, Exception)
    return without_password(one_line(error)[:200])
