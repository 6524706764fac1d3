"""Start a training's workers, watch them, and tell MLflow: the driver's side."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import uuid
from importlib.metadata import version

import ray
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from jobs.experiment import Experiment
from jobs.tracking import without_password
from jobs.training.checks import Checked
from jobs.training.failures import TellFailures, of_training
from jobs.training.settings import TrainSettings
from jobs.training.watch import OnValidation, Watch
from jobs.training.worker import train_worker
from pipelines.storage import exists, join, read_bytes, write_bytes

RUN_FILE = "mlflow.json"
"""In the output: which MLflow run its training is, so that a resumed one goes on in it."""
PACKAGES = ("handi", "ray", "torch", "diffusers", "transformers", "mlflow")


def start_experiment(settings: TrainSettings, checked: Checked) -> Experiment:
    """Begin the MLflow run of this output, or go on in it.

    Raises:
        ValueError: if the tracking URI is none.
    """
    params = {
        **settings.model_dump(),
        "clips": checked.training_clips,
        "clips_held_out": checked.held_out,
        "data_fingerprint": checked.index.fingerprint,
        "versions": {package: version(package) for package in PACKAGES},
    }
    tags = {"handi.output": settings.output}
    known = join(settings.output, RUN_FILE)
    run_id = json.loads(read_bytes(known))["run_id"] if exists(known) else None
    name = settings.output.rstrip("/").rsplit("/", 1)[-1]
    experiment = Experiment.start(
        settings.experiment, name, params, tags, run_id=run_id, parent_run_id=settings.parent_run
    )
    threading.Thread(target=_note_run, args=(experiment, known), daemon=True).start()
    return experiment


def _note_run(experiment: Experiment, url: str) -> None:
    run_id = experiment.wait_for_run()
    if run_id:
        write_bytes(
            url, json.dumps({"run_id": run_id, "uri": without_password(experiment.uri)}).encode()
        )


def run(
    settings: TrainSettings,
    checked: Checked,
    experiment: Experiment,
    on_validation: OnValidation | None = None,
) -> str | None:
    """Train on Ray's workers until the end; None, or why it ended before, in one line.

    Args:
        on_validation: called with the epoch and the figures of each validation.
    """
    # The workers' paths are those of the job, not of a folder that Ray makes for each.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    queue = Queue(actor_options={"num_cpus": 0, "label_selector": _this_node()})
    resources: dict[str, float] = {"CPU": settings.cpus_per_worker}
    on_gpus = settings.device == "cuda"
    if on_gpus:
        resources["GPU"] = 1
    with tempfile.TemporaryDirectory() as scratch:
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"settings": settings.model_dump(), "records": queue},
            scaling_config=ScalingConfig(
                num_workers=settings.num_workers,
                use_gpu=on_gpus,
                resources_per_worker=resources,
                placement_strategy=settings.placement,
            ),
            run_config=RunConfig(
                # For Ray's own records: checkpoints are not its, see pipelines/checkpoints.py.
                name=uuid.uuid4().hex,
                storage_path=scratch,
                callbacks=[TellFailures(queue)],  # type: ignore[list-item]
                failure_config=FailureConfig(max_failures=settings.max_failures),
                logging_config=LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]
            ),
        )
        with Watch(queue, experiment, checked.done, checked.steps, on_validation) as watch:
            try:
                trainer.fit()
            except TrainingFailedError as error:
                watch.stopped = watch.stopped or of_training(error)
        queue.shutdown()
    return watch.stopped


def _this_node() -> dict[str, str]:
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
