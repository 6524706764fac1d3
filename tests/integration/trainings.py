"""Short trainings on rendered clips as processes, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from mlflow import MlflowClient

from jobs.training.launch import RUN_FILE
from pipelines.checkpoints import checkpoint_steps
from pipelines.storage import find, join, read_bytes

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 280

CLIPS = ["lift_box_1", "lift_box_2", "open_lid_1", "open_lid_2", "slide_cup_1", "slide_cup_2"]

# Two workers share steps of four clips, three steps an epoch: four clips twice, and the last step
# is not full. Checkpoints lie in the middle of epochs.
SHORT = """
model: tiny
epochs: 2
repeats: 2
num_frames: 4
batch_size: 4
clips_per_pass: 2
num_workers: 2
cpus_per_worker: 0.5
threads: 1
device: cpu
dtype: float32
optimiser: {learning_rate: 1.0e-3, warmup_steps: 1, ema_decay: 0.9}
losses: {decoded_frames: 1, presence_threshold: 0.0, hand_timesteps: 1.0}
ramp_start: 0.0
ramp_end: 0.5
mask_steps: 1
validation: {held_out: 1, every_epochs: 1, noise_timesteps: 2, num_inference_steps: 1, shown: 1}
checkpoint_every: 2
log_every: 1
"""


class Training:
    """One training: its command and environment, and the figures that it has tracked.

    Args:
        folder: a new one, for the tracking store and the file of keys.
        data, output: URLs.
    """

    def __init__(self, folder: Path, data: str, output: str, hand_model: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.output = output
        self.store = f"sqlite:///{folder}/mlflow.db"
        config = folder / "short.yaml"
        config.write_text(SHORT)
        keys = {"config": config, "data": data, "output": output, "hand-model": hand_model}
        self.arguments = [str(part) for key, value in keys.items() for part in (f"--{key}", value)]
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": self.store,
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *more: object, job: str = "train") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, f"jobs/{job}.py", *self.arguments, *map(str, more)],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *more: object) -> str:
        """Train to the end; gives what stood on the console."""
        return finish(self.start(*more))

    def tracked(self) -> dict[tuple[str, int], list[float]]:
        """(name, step) -> the values tracked; several where a step was taken again."""
        client = MlflowClient(tracking_uri=self.store)
        found: dict[tuple[str, int], list[float]] = {}
        for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
            for name in run.data.metrics:
                if name.startswith(("mask/", "video/", "validation/", "gradient_norm")):
                    for metric in client.get_metric_history(run.info.run_id, name):
                        found.setdefault((name, metric.step), []).append(metric.value)
        return found

    def wait_for_checkpoint(self, step: int) -> None:
        folder = join(self.output, "checkpoints")
        wait_until(lambda: max(checkpoint_steps(folder), default=0) >= step)

    def wait_for_step(self, step: int) -> None:
        """Wait until a step is tracked.

        The store is asked once the job knows its run: two that make a new store's tables at one
        moment break each other.
        """
        wait_until(lambda: bool(find(self.output, RUN_FILE)))
        wait_until(lambda: any(at >= step for _, at in self.tracked()))

    def result(self) -> dict:
        return dict(json.loads(read_bytes(join(self.output, "result.json"))))


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output[-3000:]
    return output


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def train_workers(beside: psutil.Process) -> list[psutil.Process]:
    """The workers of a training, by the name that Ray gives them, below a process."""
    family = beside.children(recursive=True)
    return [one for one in family if "RayTrainWorker" in "".join(one.cmdline())]


def end(processes: list[psutil.Process]) -> None:
    """Kill those that have not ended by themselves."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def kill_family(process: subprocess.Popen[str]) -> None:
    """What a machine that loses its power does to a job and all that it started."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    end(family)
    process.communicate()


def assert_same_losses(faulty: Training, reference: Training) -> None:
    """Every loss of every step, validation and all, is that of the training without faults.

    But for rounding, which grows from step to step.
    """
    expected, found = reference.tracked(), faulty.tracked()
    assert found.keys() == expected.keys()
    for key, (value,) in expected.items():
        for again in found[key]:
            assert abs(again - value) <= 1e-4 * (1 + abs(value)), (key, again, value)
