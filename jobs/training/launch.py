"""Start a training's workers, watch them, and tell MLflow: the driver's side."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import uuid
from importlib.metadata import version

import ray
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from handi_model.damage import parse_json
from jobs.cli import recipe
from jobs.dataset_input import dataset_input
from jobs.experiment import Experiment
from jobs.tracking import run_name, without_password
from jobs.training.checks import Checked
from jobs.training.failures import TellFailures, of_training
from jobs.training.records import StopRequest
from jobs.training.settings import TrainSettings
from jobs.training.watch import OnValidation, Watch
from jobs.training.worker import train_worker
from pipelines.running.interrupts import Interrupted
from pipelines.running.ray_errors import reason
from pipelines.storage import exists, join, read_bytes, write_bytes

RUN_FILE = "mlflow.json"
"""In the output: which MLflow run its training is, so that a resumed one goes on in it."""
END_S = 5.0
"""For workers to end by themselves, once one has said why the training cannot go on."""
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
    if settings.parent_run:
        tags["mlflow.source.name"] = "jobs/tune.py"  # a trial's own process is a worker of Ray's
    if changes := checked.resumed.changes:
        at = f"handi.changed_at_step_{checked.resumed.done:08d}"
        tags[at] = "; ".join(map(str, changes))
    known = join(settings.output, RUN_FILE)
    remedy = "delete it: the training goes on in another run"
    run_id = parse_json(known, read_bytes(known), remedy)["run_id"] if exists(known) else None
    experiment = Experiment.start(
        settings.experiment,
        run_name(settings.output, recipe() or settings.model),
        params,
        tags,
        run_id=run_id,
        parent_run_id=settings.parent_run,
        datasets=[
            dataset_input(
                checked.index,
                "training",
                trained_on=checked.training_clips,
                held_out=checked.held_out,
            )
        ],
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
    stop = StopRequest.options(label_selector=_this_node()).remote()  # type: ignore[attr-defined]
    resources: dict[str, float] = {"CPU": settings.cpus_per_worker}
    on_gpus = settings.device == "cuda"
    if on_gpus:
        resources["GPU"] = 1
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={
                "settings": settings.model_dump(),
                "records": queue,
                "stop": stop,
            },
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
        with Watch(queue, experiment, checked.resumed.done, checked.steps, on_validation) as watch:
            try:
                failed = _fit(trainer, watch)
            except KeyboardInterrupt as interrupt:
                stop.make.remote()
                outcome = _last_checkpoint(watch, settings.grace_s)
                if isinstance(interrupt, Interrupted):
                    interrupt.outcome = outcome
                raise
        watch.stopped = watch.stopped or failed
        queue.shutdown()
    return watch.stopped


def _fit(trainer: TorchTrainer, watch: Watch) -> str | None:
    """Train, until it ends or a worker says that it cannot go on; gives why Ray Train gave up.

    In a thread: in the main one Ray Train would put a handler of its own for Ctrl-C.
    """
    outcome: list[str | None] = []

    def fit() -> None:
        try:
            trainer.fit()
        except TrainingFailedError as error:
            outcome.append(of_training(error))
        except Exception as error:  # such as of a cluster that is gone
            outcome.append(reason(error))

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    while thread.is_alive() and not watch.stopped:
        thread.join(0.2)
    thread.join(END_S)
    return outcome[0] if outcome else None


def _last_checkpoint(watch: Watch, grace_s: float) -> str:
    """Wait for the checkpoint that was asked for; gives a line about it."""
    deadline = time.monotonic() + grace_s
    while watch.saved is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if watch.saved is None:
        return f"no step ended within {grace_s:g} s (--grace-s), so the last checkpoint stands"
    return f"step {watch.saved} is saved as a checkpoint"


def _this_node() -> dict[str, str]:
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
