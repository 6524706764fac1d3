"""Find the weights of the losses, alpha and eta: short trainings, the hopeless ones cut off early.

python jobs/tune.py --config jobs/configs/tiny.yaml --data URL --output URL --samples 8
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import tempfile
from contextlib import ExitStack
from typing import Any

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
from jobs.training.trials import Trial, run_trials
from pipelines.running.cluster import join_cluster
from pipelines.running.output_lease import held_output
from pipelines.running.refusal import ends_job
from pipelines.storage import join, write_bytes

WAIT_S = 30
"""For the tracking server, so that the trials can be nested; without it they stand beside."""


class TuneSettings(TrainSettings):
    """Keys of jobs/tune.py: those of a training, and how its loss weights are sought."""

    samples: int = Field(8, ge=1, description="Trainings to try.")
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
        {"validation/mask_iou": -1.0, "validation/joint_error": 1.0},
        description="Validation figures and their weights in the sum to be made small.",
    )

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
        return self

    def training(self) -> TrainSettings:
        return TrainSettings(**{name: getattr(self, name) for name in TrainSettings.model_fields})


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
    """Try the weights, and write the best ones.

    Raises:
        JobError: if no training came to a validation, or the output cannot be written.
    """
    print(
        f"{settings.samples} trainings of up to {checked.steps} steps, "
        f"{settings.concurrent} at a time"
    )
    with experiment, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        training.parent_run = experiment.wait_for_run(WAIT_S)
        try:
            trials = run_trials(
                training,
                settings.samples,
                settings.concurrent,
                settings.grace_epochs,
                settings.alpha,
                settings.eta,
                settings.objective,
                scratch,
            )
        except KeyboardInterrupt:
            ray.shutdown()  # the trials' processes, which would go on telling of their runs
            if training.parent_run:
                end_nested_runs(experiment.uri, training.parent_run, "KILLED")
            raise
        best = trials[0]
        url = join(training.output, "best.yaml")
        with ends_job(training.output):
            write_bytes(url, best_config(settings, best))
        experiment.log_metrics(0, {"alpha": best.alpha, "eta": best.eta, "score": best.score})
        experiment.log_bytes("best.yaml", best_config(settings, best))
    for trial in trials:
        print(
            f"alpha {trial.alpha:.4f}  eta {trial.eta:.4f}  score {trial.score:.5f} "
            f"after {trial.epochs} epochs"
        )
    print(f"best: {url}; python jobs/train.py --config {url} --output URL trains with it")


def best_config(settings: TuneSettings, best: Trial) -> bytes:
    """A file of keys that jobs/train.py takes: those given, with the best weights."""
    keys = settings.training().model_dump(exclude_defaults=True)
    keys.pop("output")
    losses: dict[str, Any] = {**keys.get("losses", {}), "alpha": best.alpha, "eta": best.eta}
    return yaml.safe_dump({**keys, "losses": losses}, sort_keys=False).encode()


if __name__ == "__main__":
    run_job(main, resumes=False)
