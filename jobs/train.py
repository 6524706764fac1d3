"""Train HANDI: both stages in turn, on one machine or on a cluster.

python jobs/train.py --config jobs/configs/tiny.yaml --data URL --output URL
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import tempfile
from contextlib import ExitStack
from pathlib import Path

from jobs.cli import load, stop
from jobs.experiment import Experiment
from jobs.training.checks import Checked, check, check_cluster, look_at_output
from jobs.training.finish import finished, model_url
from jobs.training.launch import run, start_experiment
from jobs.training.resuming import Resumed
from jobs.training.settings import TrainSettings
from pipelines.running.cluster import join_cluster
from pipelines.running.job_error import JobError
from pipelines.running.output_lease import held_output
from pipelines.storage import fetch_folder


def main() -> None:
    settings = load(TrainSettings, "train")
    with ExitStack() as held:
        try:
            checked = check(settings)
            # Held before it is looked at: whoever writes it is named, whatever the keys are.
            held.enter_context(held_output(settings.output, "jobs/train.py"))
            checked = look_at_output(settings, checked)
            resumed = checked.resumed
            if finished(settings) and resumed.done == checked.steps:
                print(f"nothing to do: {settings.epochs} epochs are done; {model_url(settings)}")
                tell(resumed, "changed since, to no effect")
                return
            join_cluster()
            check_cluster(settings)
            experiment = start_experiment(settings, checked)
        except ValueError as error:
            stop(str(error))
        train(settings, checked, experiment)


def train(settings: TrainSettings, checked: Checked, experiment: Experiment) -> None:
    """Train what is left of the training, and register its model.

    Raises:
        JobError: if the training ended before its end.
    """
    print(
        f"{checked.training_clips} clips to train, {checked.held_out} held out; {checked.steps} "
        f"steps, {checked.resumed.done} done; {settings.num_workers} workers on {settings.device}"
    )
    tell(checked.resumed, "changed")
    with tempfile.TemporaryDirectory() as scratch, experiment:
        if stopped := run(settings, checked, experiment):
            raise JobError(stopped)
        if settings.registered_model:
            model = fetch_folder(model_url(settings), Path(scratch))
            experiment.register_model(model, settings.registered_model)
    print(f"model: {model_url(settings)}")


def tell(resumed: Resumed, what: str) -> None:
    """Show the keys that have another value than in the run before, a line each."""
    for change in resumed.changes:
        print(f"{what}: {change}")


if __name__ == "__main__":
    run_job(main)
