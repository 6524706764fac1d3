"""Find the weights of the losses, alpha and eta: short trainings, the hopeless ones cut off early.

The best ones are then repeated under further seeds, which shows what of the difference is chance.

python jobs/tune.py --config jobs/configs/tiny.yaml --data URL --output URL --samples 8
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import math
import tempfile
from contextlib import ExitStack
from typing import Any

import numpy as np
import ray
import yaml
from pydantic import Field, model_validator

from jobs.cli import load, recipe, stop
from jobs.dataset_input import dataset_input
from jobs.experiment import Experiment
from jobs.mlflow_run import end_nested_runs
from jobs.tracking import run_name
from jobs.training.checks import Checked, check, check_cluster
from jobs.training.settings import TrainSettings
from jobs.tuning.halving import Halving
from jobs.tuning.standing import Plan, Repeated, Trial, difference, ranked, repeated
from jobs.tuning.telling import (
    difference_line,
    end_run,
    picture,
    repeated_line,
    result_file,
    trial_line,
)
from jobs.tuning.trials import run_trials
from jobs.validation import FIGURES
from pipelines.running.cluster import join_cluster
from pipelines.running.job_error import JobError
from pipelines.running.output_lease import held_output
from pipelines.running.refusal import ends_job
from pipelines.storage import join, write_bytes

WAIT_S = 30
"""For the tracking server, so that the trials can be nested; without it they stand beside."""
KNOWN = {f"validation/{name}" for name in (*FIGURES, "mask_noise", "video_noise")}
"""Figures of a validation."""


class TuneSettings(TrainSettings):
    """Keys of jobs/tune.py: those of a training, and how its loss weights are sought."""

    samples: int = Field(8, ge=1, description="Pairs of weights to try.")
    concurrent: int = Field(1, ge=1, description="Trainings at a time.")
    grace_epochs: int = Field(
        2, ge=1, description="Epochs that every training gets before it may be cut off."
    )
    alpha: tuple[float, float] = Field(
        (0.01, 1.0), description="Lowest and highest weight of L_mIoU tried (log-uniform)."
    )
    eta: tuple[float, float] = Field(
        (0.1, 10.0), description="Lowest and highest weight of L_HR tried (log-uniform)."
    )
    objective: dict[str, float] = Field(
        {
            "validation/mask_iou": -1.0,
            "validation/hand_distance": 0.5,
            "validation/hand_recall": -0.5,
        },
        description="Validation figures and their weights in the score, below 0 where more is "
        "better. Each figure counts in standard deviations over the trainings.",
    )
    seeds: int = Field(
        3,
        ge=0,
        description="Further seeds under which the best pairs of weights are trained to the end, "
        "for the spread; 0 repeats none.",
    )
    finalists: int = Field(2, ge=1, description="The best pairs of weights that are repeated.")

    @model_validator(mode="after")
    def _can_be_sought(self) -> TuneSettings:
        for key in ("alpha", "eta"):
            low, high = getattr(self, key)
            if not 0 < low < high:
                raise ValueError(f"{key}: needs a lowest and a highest weight above 0, in order")
        if not self.validation.held_out:
            raise ValueError("validation.held_out: 0 leaves nothing to compare trainings by")
        if self.grace_epochs < self.validation.every_epochs:
            raise ValueError(
                "grace_epochs: ends before the first validation, after validation.every_epochs "
                f"{self.validation.every_epochs}"
            )
        if unknown := sorted(self.objective.keys() - KNOWN):
            raise ValueError(
                f"objective: validation has no {unknown[0]!r}, only {', '.join(sorted(KNOWN))}"
            )
        if not self.uses_mask:  # the figures of stage 1 are not measured
            self.objective = {
                name: weight for name, weight in self.objective.items() if "mask" not in name
            }
        if not any(self.objective.values()):
            raise ValueError("objective: no figure has a weight; give one")
        if self.seeds == 1:
            raise ValueError("seeds: one shows no spread; give 0, or 2 and more")
        return self

    def training(self) -> TrainSettings:
        return TrainSettings(**{name: getattr(self, name) for name in TrainSettings.model_fields})

    def plans(self) -> list[Plan]:
        """Pairs of weights drawn log-uniformly; the same ones for the same seed."""
        draw = np.random.default_rng(self.seed)
        bounds = np.log([self.alpha, self.eta])
        drawn = np.exp(draw.uniform(bounds[:, 0], bounds[:, 1], (self.samples, 2)))
        return [Plan(float(alpha), float(eta), self.seed) for alpha, eta in drawn]

    def further_plans(self, best: list[Trial]) -> list[Plan]:
        """The best trials' weights under further seeds.

        Their own seed is left out: it had a part in their being the best.
        """
        seeds = range(self.seed + 1, self.seed + 1 + self.seeds)
        return [Plan(one.plan.alpha, one.plan.eta, seed) for one in best for seed in seeds]


def main() -> None:
    settings = load(TuneSettings, "tune")
    with ExitStack() as held:
        try:
            training = settings.training()
            checked = check(training)
            held.enter_context(held_output(training.output, "jobs/tune.py"))
            join_cluster()
            check_cluster(training)
            training.registered_model = None
            tags = {"handi.output": training.output}
            experiment = Experiment.start(
                training.experiment,
                run_name(training.output, recipe() or training.model),
                settings.model_dump(),
                tags,
                datasets=[dataset_input(checked.index, "training")],
            )
        except ValueError as error:
            stop(str(error))
        tune(settings, training, checked, experiment)


def tune(
    settings: TuneSettings, training: TrainSettings, checked: Checked, experiment: Experiment
) -> None:
    """Try the weights, repeat the best ones, and write which they are.

    Raises:
        JobError: if no training came to its end, or the output cannot be written.
    """
    print(
        f"{settings.samples} trainings of up to {checked.steps} steps, "
        f"{settings.concurrent} at a time"
    )
    with experiment, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        training.parent_run = experiment.wait_for_run(WAIT_S)
        objective = settings.objective
        halving = Halving(min(settings.grace_epochs, training.epochs), training.epochs, objective)
        try:
            tried = run_trials(training, settings.plans(), settings.concurrent, scratch, halving)
            trials = ranked(tried, objective)
            end_trials(training, trials, objective, experiment.uri)
            finished = [trial for trial, _ in trials if trial.outcome == "finished"]
            if not finished:
                why = next((trial.why for trial, _ in trials if trial.why), "all were cut off")
                raise JobError(f"no training came to its end: {why}")
            again: list[Trial] = []
            if plans := settings.further_plans(finished[: settings.finalists]):
                print(f"{len(plans)} trainings of the best weights under further seeds")
                again = run_trials(training, plans, settings.concurrent, scratch)
                end_trials(training, ranked(again, objective), objective, experiment.uri)
        except KeyboardInterrupt:
            ray.shutdown()  # the trials' processes, which would go on telling of their runs
            if training.parent_run:
                end_nested_runs(experiment.uri, training.parent_run, "KILLED")
            raise
        conclude(settings, training, experiment, trials, repeated(again, objective))


def end_trials(
    training: TrainSettings,
    trials: list[tuple[Trial, float]],
    objective: dict[str, float],
    uri: str,
) -> None:
    """Tell of trials that are over, on the console and in their runs."""
    for trial, score in trials:
        print(trial_line(trial, score, objective))
        if trial.name:
            end_run(training, trial, score, training.parent_run)
    if training.parent_run:
        # Of a process that died before it could say which run is its.
        end_nested_runs(uri, training.parent_run, "FAILED")


def conclude(
    settings: TuneSettings,
    training: TrainSettings,
    experiment: Experiment,
    trials: list[tuple[Trial, float]],
    repeats: list[Repeated],
) -> None:
    """Write the best weights: by their mean over seeds, or where there are none by one training."""
    score = repeats[0].score.mean if repeats else trials[0][1]
    if not math.isfinite(score):
        raise JobError(
            f"objective: none of {', '.join(settings.objective)} was measured, so that no training "
            f"is the best; {training.output}/trials has them"
        )
    best: Repeated | Plan = repeats[0] if repeats else trials[0][0].plan
    found = difference(*repeats[:2]) if len(repeats) > 1 else None
    files = {
        "best.yaml": best_config(settings, best.alpha, best.eta),
        "trials.json": result_file(trials, repeats, found, settings.model_dump()),
        "trials.png": picture(trials, repeats),
    }
    for name, data in files.items():
        with ends_job(training.output):
            write_bytes(join(training.output, name), data)
        experiment.log_bytes(name, data)
    experiment.log_metrics(0, {"alpha": best.alpha, "eta": best.eta, "score": score})
    for one in repeats:
        print(repeated_line(one))
    if len(repeats) > 1:
        print(difference_line(found))
    if repeats:
        spread = {
            f"best/{name}{what}": value
            for name, moments in {"score": repeats[0].score, **repeats[0].figures}.items()
            for what, value in (("", moments.mean), ("/deviation", moments.deviation))
        }
        experiment.log_metrics(0, spread)
    url = join(training.output, "best.yaml")
    print(f"best: {url}; python jobs/train.py --config {url} --output URL trains with it")


def best_config(settings: TuneSettings, alpha: float, eta: float) -> bytes:
    """A file of keys that jobs/train.py takes: those given, with the best weights."""
    keys = settings.training().model_dump(exclude_defaults=True)
    keys.pop("output")
    losses: dict[str, Any] = {**keys.get("losses", {}), "alpha": alpha, "eta": eta}
    return yaml.safe_dump({**keys, "losses": losses}, sort_keys=False).encode()


if __name__ == "__main__":
    run_job(main, resumes=False)
