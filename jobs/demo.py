"""Everything at once: prepare the sample clips, train both stages, generate a clip, show it all.

python jobs/demo.py

Each job runs as a person would run it, from the checkout's folder, below its command.
"""

from __future__ import annotations

from pipelines.running.interrupts import Interrupted, run_job

# isort: split

import os
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from jobs.cli import load, stop
from pipelines.dataset import read_rows
from pipelines.records import one_line
from pipelines.running.output_lease import held_output
from pipelines.storage import absolute, join, writable, write_bytes

CONFIG = "jobs/configs/demo.yaml"
SCENE = "lift_box_1"
"""The clip that is generated anew: one of those trained on, as the page says."""


class DemoSettings(BaseModel):
    """Keys of the job."""

    model_config = ConfigDict(extra="forbid")

    output: str = Field("out/demo", description="URL of the folder to write.")
    epochs: int | None = Field(
        None, ge=1, description=f"Epochs to train, both stages together; those of {CONFIG}."
    )


def main() -> None:
    settings = load(DemoSettings, "demo")
    if not Path(CONFIG).is_file():
        stop(f"{CONFIG} is not here: run the demo from the checkout's folder")
    output = settings.output.rstrip("/")
    with ExitStack() as held:
        try:
            held.enter_context(held_output(writable(output), "jobs/demo.py"))
        except ValueError as error:
            stop(str(error))
        demo(output, settings.epochs)


def demo(output: str, epochs: int | None) -> None:
    """Run the jobs one after the other, and draw the page."""
    began = time.perf_counter()
    done = [run(name, arguments) for name, arguments in learning(output, epochs)]

    (row,) = read_rows(join(output, "data"), [SCENE])
    write_bytes(join(output, "scene.jpg"), row["frames"][0])
    done.append(run(*generating(output, row["narration"])))

    # Matplotlib and MLflow take seconds to import: a mistake above is told without them.
    from mlflow.exceptions import MlflowException

    from jobs.demo_page import write_page

    try:
        page = write_page(output, SCENE, short(sys.executable), done)
    except (OSError, MlflowException) as error:  # what MLflow never took, or keeps elsewhere
        stop(f"the page cannot be drawn: {one_line(error)}; run the same command again")
    print(f"\neverything took {time.perf_counter() - began:.0f} s; open {absolute(page)}")


def learning(output: str, epochs: int | None) -> list[tuple[str, list[str]]]:
    """What runs until there is a model: a step's name, and its job's arguments."""
    data, run_folder = join(output, "data"), join(output, "run")
    train = ["jobs/train.py", "--config", CONFIG, "--data", data, "--output", run_folder]
    if epochs:
        train += ["--epochs", str(epochs)]
    preprocess = ["jobs/preprocess.py", "--config", "jobs/configs/sample.yaml"]
    # Three clips, one of them held out: what two cores can learn in minutes.
    preprocess += ["--resolution", "64", "--limit", "3", "--output", data]
    return [
        ("preprocess", preprocess),
        ("encode", ["jobs/encode.py", "--data", data]),
        ("train", train),
    ]


def generating(output: str, narration: str) -> tuple[str, list[str]]:
    """The step that generates a clip: its name, and its job's arguments."""
    keys = {
        "model": join(output, "run", "model"),
        "image": join(output, "scene.jpg"),
        "prompt": narration,
        "output": join(output, "clips"),
        "name": SCENE,
    }
    line = [part for key, value in keys.items() for part in (f"--{key}", value)]
    return "generate", ["jobs/generate.py", *line]


def run(name: str, arguments: list[str]) -> str:
    """Run a job in a process of its own; gives its command line, or ends with its exit code."""
    line = shlex.join([short(sys.executable), *arguments])
    print(f"\n$ {line}", flush=True)
    began = time.perf_counter()
    # In a session of its own, so that each interrupt comes to it once: from here.
    job = subprocess.Popen([sys.executable, *arguments], start_new_session=True)
    try:
        code = job.wait()
    except Interrupted as interrupt:
        job.send_signal(interrupt.number)
        job.wait()
        interrupt.outcome = f"stopped at {name}"
        raise
    if code:
        print(f"error: the demo stopped at {name}, exit code {code}: {line}", file=sys.stderr)
        raise SystemExit(code if code > 0 else 128 - code)
    print(f"{name}: {time.perf_counter() - began:.0f} s")
    return line


def short(path: str) -> str:
    """A path as one would type it here."""
    near = os.path.relpath(path)
    return path if near.startswith("..") else near


if __name__ == "__main__":
    run_job(main)
