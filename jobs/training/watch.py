"""What a person sees of a training: the bar on the console, and the run in MLflow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from ray.util.queue import Queue
from tqdm import tqdm

from jobs.experiment import Experiment
from jobs.training.records import Note, Picture, Progress, Saved, Stopped, received

SHOWN = ("loss", "noise", "mask_iou", "hand")
"""Of a stage's losses, beside the bar."""


OnValidation = Callable[[int, dict[str, float]], None]


class Watch:
    """Takes the workers' records from their queue in a thread, until it is left.

    Attributes:
        stopped: why the training ended before its end, or None.
        saved: step of the checkpoint that was asked for, or None.
    """

    def __init__(
        self,
        queue: Queue,
        experiment: Experiment,
        done: int,
        steps: int,
        on_validation: OnValidation | None = None,
    ) -> None:
        self.stopped: str | None = None
        self.saved: int | None = None
        self._queue = queue
        self._on_validation = on_validation
        self._experiment = experiment
        self._bar = tqdm(
            total=steps, initial=done, desc="train", unit="step", mininterval=2, smoothing=0.1
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._bar.close()

    def _run(self) -> None:
        while True:
            # Asked before the queue: what came in meanwhile is still taken.
            over = self._over.is_set()
            record = received(self._queue, 0.5)
            if record is None:
                if over:
                    return
            elif isinstance(record, Progress):
                self._progress(record)
            elif isinstance(record, Picture):
                self._experiment.log_bytes(record.path, record.data)
            elif isinstance(record, Note):
                self._bar.write(record.text)
            elif isinstance(record, Saved):
                self.saved = record.step
            elif isinstance(record, Stopped):
                self.stopped = record.reason

    def _progress(self, record: Progress) -> None:
        # After a failure the count goes back to the checkpoint.
        self._bar.n = record.step
        if record.values:
            shown = {
                name: f"{record.values[f'{record.stage}/{name}']:.4f}"
                for name in SHOWN
                if f"{record.stage}/{name}" in record.values
            }
            self._bar.set_postfix(
                {"epoch": record.epoch, "stage": record.stage, **shown}, refresh=False
            )
            self._experiment.log_metrics(record.step, record.values)
            validated = any(name.startswith("validation/") for name in record.values)
            if validated and self._on_validation:
                self._on_validation(record.epoch, record.values)
        self._bar.refresh()
