"""Train HANDI: both stages in turn, on one machine or on a cluster.

python jobs/train.py --config jobs/configs/tiny.yaml --data URL --output URL
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jobs.cli import load, stop
from jobs.training.checks import check, check_cluster
from jobs.training.finish import finished, model_url
from jobs.training.launch import run, start_experiment
from jobs.training.settings import TrainSettings
from pipelines.cluster import join_cluster
from pipelines.storage import fetch_folder


def main() -> None:
    settings = load(TrainSettings, "train")
    try:
        checked = check(settings)
        done = finished(settings)
        if done and checked.done == checked.steps:
            print(f"nothing to do: {settings.epochs} epochs are done; {model_url(settings)}")
            return
        join_cluster()
        check_cluster(settings)
        experiment = start_experiment(settings, checked)
    except ValueError as error:
        stop(str(error))
    print(
        f"{checked.training_clips} clips to train, {checked.held_out} held out; {checked.steps} "
        f"steps, {checked.done} done; {settings.num_workers} workers on {settings.device}"
    )
    try:
        stopped = run(settings, checked, experiment)
    except BaseException:
        experiment.close("KILLED")
        raise
    if stopped:
        experiment.close("FAILED")
        print(f"error: {stopped}", file=sys.stderr)
        raise SystemExit(1)
    with tempfile.TemporaryDirectory() as scratch:
        if settings.registered_model:
            model = fetch_folder(model_url(settings), Path(scratch))
            experiment.register_model(model, settings.registered_model)
        experiment.close()
    print(f"model: {model_url(settings)}")


if __name__ == "__main__":
    main()
