"""Trainings under other loss weights side by side, on Ray Tune."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from jobs.training.checks import check, check_cluster
from jobs.training.launch import run, start_experiment
from jobs.training.settings import TrainSettings
from pipelines.running.job_error import JobError
from pipelines.storage import join

TRIAL = {"CPU": 0.01}
"""Of the cluster, for the process that starts a trial's workers and waits: Ray takes no zero."""


@dataclass(frozen=True)
class Trial:
    """One training of the search.

    Attributes:
        score: of its last validation, the lower the better.
        epochs: that it got.
    """

    alpha: float
    eta: float
    score: float
    epochs: int


def run_trials(
    training: TrainSettings,
    samples: int,
    concurrent: int,
    grace_epochs: int,
    alpha: tuple[float, float],
    eta: tuple[float, float],
    objective: dict[str, float],
    scratch: str,
) -> list[Trial]:
    """Try `samples` pairs of weights; those that fall behind are cut off by successive halving.

    Args:
        scratch: a local folder for Ray Tune's own records.

    Returns:
        The trials, those that went furthest first, of these the best first.

    Raises:
        JobError: if none came to a validation.
    """
    tuner = tune.Tuner(
        # The trial only starts workers and waits; they take what a training takes.
        tune.with_resources(
            tune.with_parameters(_trial, training=training, objective=objective), TRIAL
        ),
        param_space={"alpha": tune.loguniform(*alpha), "eta": tune.loguniform(*eta)},
        tune_config=tune.TuneConfig(
            metric="score",
            mode="min",
            num_samples=samples,
            max_concurrent_trials=concurrent,
            scheduler=ASHAScheduler(
                time_attr="epoch",
                max_t=training.epochs,
                grace_period=min(grace_epochs, training.epochs),
                reduction_factor=2,
            ),
        ),
        run_config=tune.RunConfig(storage_path=scratch, verbose=0),
    )
    trials = []
    for result in _fit(tuner):
        said = result.metrics or {}
        if math.isfinite(said.get("score", math.nan)):
            weights = result.config or {}
            trials.append(Trial(weights["alpha"], weights["eta"], said["score"], said["epoch"]))
    if not trials:
        raise JobError(f"no training came to a validation; see {training.output}/trials")
    return sorted(trials, key=lambda trial: (-trial.epochs, trial.score))


def _fit(tuner: tune.Tuner) -> Iterable[tune.Result]:
    """Run the search in a thread: in the main one Ray Tune would take Ctrl-C for itself.

    An interrupt does not wait for it: its trials end with Ray.
    """
    results: Future[Iterable[tune.Result]] = Future()

    def fit() -> None:
        try:
            results.set_result(tuner.fit())  # type: ignore[arg-type]
        except BaseException as error:
            results.set_exception(error)

    threading.Thread(target=fit, daemon=True).start()
    while not results.done():
        wait([results], timeout=0.2)
    return results.result()


def _trial(config: dict[str, float], training: TrainSettings, objective: dict[str, float]) -> None:
    weights = {name: config[name] for name in ("alpha", "eta")}
    settings = training.model_copy(
        update={
            "losses": training.losses.model_copy(update=weights),
            "output": join(training.output, "trials", tune.get_context().get_trial_name()),
        }
    )
    checked = check(settings)
    check_cluster(settings)
    experiment = start_experiment(settings, checked)
    told: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue()
    outcome: list[str | None] = []

    def train() -> None:
        try:
            outcome.append(run(settings, checked, experiment, lambda *said: told.put(said)))
        finally:
            told.put(None)

    thread = threading.Thread(target=train)
    thread.start()
    # Ray Tune is told from the trial's own thread.
    while (said := told.get()) is not None:
        epoch, figures = said
        tune.report({"score": score(figures, objective), "epoch": epoch + 1})
    thread.join()
    stopped = outcome[0] if outcome else "the training could not be started"
    experiment.close("FAILED" if stopped else "FINISHED")
    if stopped:
        raise RuntimeError(stopped)


def score(figures: dict[str, float], objective: dict[str, Any]) -> float:
    """The weighted sum to be made small; NaN where a figure is missing."""
    return sum(weight * figures.get(name, math.nan) for name, weight in objective.items())
