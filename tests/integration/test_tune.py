"""The search on real Ray Tune and a real store of MLflow; the trainings are played."""

from __future__ import annotations

import logging
import os
import time

import pytest
import ray
from mlflow import MlflowClient

from jobs import tune
from jobs.experiment import Experiment
from jobs.training.settings import TrainSettings
from jobs.tuning import trials
from jobs.tuning.halving import Halving
from jobs.tuning.standing import Plan, ranked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EPOCHS = 3
OBJECTIVE = {"validation/mask_iou": -1.0}
GOOD, FALLING_BEHIND, FAILING, DYING = (Plan(alpha, 1.0, 0) for alpha in (0.1, 0.9, 0.5, 0.7))


def played(config, training) -> None:
    """A trial as it is, around a training that takes no time."""

    def run(settings, checked, experiment, on_validation) -> str | None:
        plan = Plan(**config["plan"])
        if plan == FAILING:
            return "no step had a gradient"
        if plan == DYING:
            experiment.wait_for_run(60)
            os._exit(1)
        for epoch in range(EPOCHS):
            figures = {"validation/mask_iou": 1 - plan.alpha}
            experiment.log_metrics(epoch, figures)
            on_validation(epoch, figures)
            if plan == FALLING_BEHIND:
                time.sleep(300)  # Ray Tune ends the process meanwhile
        return None

    def start_experiment(settings, checked) -> Experiment:
        parent = settings.parent_run
        return Experiment.start(settings.experiment, settings.output, {}, {}, parent_run_id=parent)

    trials.check = trials.check_cluster = lambda _: None
    trials.start_experiment, trials.run = start_experiment, run
    trials._trial(config, training)


@pytest.fixture
def small_ray(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    ray.init(num_cpus=2, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


def test_however_a_trial_ends_its_run_has_an_end_a_score_and_what_it_told(
    small_ray, tmp_path, monkeypatch
):
    parent = Experiment.start("tuned", "tune", {}, {})
    training = TrainSettings(
        data="clips",
        output=str(tmp_path),
        epochs=EPOCHS,
        experiment="tuned",
        parent_run=parent.wait_for_run(120),
    )
    monkeypatch.setattr(trials, "_trial", played)
    plans = [GOOD, FALLING_BEHIND, FAILING, DYING]
    halving = Halving(1, EPOCHS, OBJECTIVE)
    tried = trials.run_trials(training, plans, 1, str(tmp_path / "scratch"), halving)
    outcomes = {one.plan: (one.outcome, one.epochs) for one in tried}
    assert outcomes == {
        GOOD: ("finished", EPOCHS),
        FALLING_BEHIND: ("cut off", 1),
        FAILING: ("failed", 0),
        DYING: ("failed", 0),
    }
    tune.end_trials(training, ranked(tried, OBJECTIVE), OBJECTIVE, parent.uri)
    parent.close()

    client = MlflowClient()
    found = client.search_runs([client.get_experiment_by_name("tuned").experiment_id])
    nested = {
        next(plan for plan in plans if f"alpha-{plan.alpha:.3g}-" in run.info.run_name): run
        for run in found
        if run.info.run_id != parent.run_id
    }
    assert {plan: run.info.status for plan, run in nested.items()} == {
        GOOD: "FINISHED",
        FALLING_BEHIND: "FINISHED",
        FAILING: "FAILED",
        DYING: "FAILED",
    }
    good, behind = nested[GOOD].data, nested[FALLING_BEHIND].data
    assert good.metrics == pytest.approx({"validation/mask_iou": 0.9, "score": 0.0})
    assert behind.metrics == pytest.approx({"validation/mask_iou": 0.1, "score": 1.0})
    assert behind.tags["handi.cut_off"] == "after 1 of 3 epochs"
    assert good.tags["handi.model"].endswith("/model")
    assert nested[FAILING].data.tags["handi.failure"] == "no step had a gradient"
