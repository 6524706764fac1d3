"""What a person is told of workers that failed, while Ray replaces them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.train import TrainingFailedError
from ray.train.v2.api.callback import UserCallback
from ray.util.queue import Queue

from jobs.training.records import Note
from pipelines.running.ray_errors import reason


def of_workers(failures: Mapping[int, BaseException]) -> str:
    """One line: the worker that failed first, as far as can be told.

    When a worker dies, the others fail for want of it.
    """
    said = {rank: reason(error) for rank, error in failures.items()}
    own = {rank: text for rank, text in said.items() if "gloo" not in text and "NCCL" not in text}
    rank, text = min((own or said).items())
    return f"worker {rank}: {text}"


def of_training(error: TrainingFailedError) -> str:
    """Why Ray Train gave up, in one line."""
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", {})
    return of_workers(failures) if failures else reason(error)


class TellFailures(UserCallback):
    """Says which worker failed and why; Ray itself would print pages, or nothing."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        self._queue.put(Note(f"{of_workers(worker_exceptions)}; the workers are replaced"))
