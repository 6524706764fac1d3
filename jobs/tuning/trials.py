"""Trainings under other loss weights side by side, on Ray Tune."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict
from typing import Any

from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from jobs.training.checks import check, check_cluster
from jobs.training.launch import run, start_experiment
from jobs.training.settings import TrainSettings
from jobs.tuning.standing import Plan, Trial
from pipelines.records import one_line
from pipelines.running.job_error import JobError
from pipelines.running.ray_errors import reason
from pipelines.storage import join

TRIAL = {"CPU": 0.01}
"""Of the cluster, for the process that starts a trial's workers and waits: Ray takes no zero."""
FLUSH_S = 30.0
"""For MLflow to take what a trial has told, before it may be cut off."""


def trial_settings(training: TrainSettings, plan: Plan, name: str) -> TrainSettings:
    """The training that is tried."""
    losses = training.losses.model_copy(update={"alpha": plan.alpha, "eta": plan.eta})
    own = {"losses": losses, "seed": plan.seed, "output": join(training.output, "trials", name)}
    return training.model_copy(update=own)


def run_trials(
    training: TrainSettings,
    plans: Sequence[Plan],
    concurrent: int,
    scratch: str,
    scheduler: TrialScheduler | None = None,
) -> list[Trial]:
    """Train by each plan. A training that fails is a trial that failed; nothing is raised for it.

    Args:
        scratch: a local folder for Ray Tune's own records.
        scheduler: cuts trials off; by default none is.

    Raises:
        JobError: if Ray Tune itself cannot go on, such as on a cluster that is gone.
    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # MLflow has it all
    tuner = tune.Tuner(
        # The trial only starts workers and waits; they take what a training takes.
        tune.with_resources(tune.with_parameters(_trial, training=training), TRIAL),
        param_space={"plan": tune.grid_search([asdict(plan) for plan in plans])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrent, scheduler=scheduler or FIFOScheduler()
        ),
        run_config=tune.RunConfig(storage_path=scratch, verbose=0),
    )
    try:
        return [trial_of(result) for result in _fit(tuner)]
    except (RayError, TuneError) as error:
        raise JobError(f"the search cannot go on: {reason(error)}") from error


def trial_of(result: tune.Result) -> Trial:
    """What Ray Tune knows of a trial.

    One that neither ended by itself nor failed was cut off: Ray Tune ends its process.
    """
    said = result.metrics or {}
    failed = said.get("stopped") or (reason(result.error) if result.error else "")
    return Trial(
        plan=Plan(**(result.config or {})["plan"]),
        name=said.get("name", ""),
        run_id=said.get("run_id"),
        history={int(epoch): figures for epoch, figures in said.get("history", {}).items()},
        outcome="failed" if failed else "finished" if said.get("ended") else "cut off",
        why=failed,
    )


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


def _trial(config: dict[str, Any], training: TrainSettings) -> None:
    """Train, and tell Ray Tune of each validation; of the last one once all is saved and told.

    What goes wrong is told, not raised: Ray Tune would print its traceback.
    """
    plan = Plan(**config["plan"])
    name = (
        f"alpha-{plan.alpha:.3g}-eta-{plan.eta:.3g}-seed-{plan.seed}-"
        f"{tune.get_context().get_trial_id()}"  # a second search in the same output has others
    )
    settings = trial_settings(training, plan, name)
    history: dict[str, dict[str, float]] = {}
    try:
        checked = check(settings)
        check_cluster(settings)
        experiment = start_experiment(settings, checked)
    except Exception as error:  # each storage has its own
        tune.report({"name": name, "ended": True, "stopped": one_line(error), "history": history})
        return
    told: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue()
    outcome: list[str | None] = []  # why the training ended before its end, or None

    def train() -> None:
        try:
            outcome.append(run(settings, checked, experiment, lambda *said: told.put(said)))
        except Exception as error:  # such as of a cluster that is gone
            outcome.append(reason(error))
        finally:
            told.put(None)

    threading.Thread(target=train, daemon=True).start()
    # Ray Tune is told from the trial's own thread.
    while (said := told.get()) is not None:
        epoch, figures = said[0] + 1, said[1]
        history[str(epoch)] = figures
        if epoch < settings.epochs:
            experiment.flush(FLUSH_S)
            tune.report(
                {"name": name, "run_id": experiment.run_id, "epoch": epoch, "history": history}
            )
    stopped = outcome[0] if outcome else "the training ended its process"
    experiment.close("FAILED" if stopped else "FINISHED")
    ended = {"name": name, "run_id": experiment.run_id, "history": history}
    tune.report({**ended, "ended": True, "stopped": stopped})
