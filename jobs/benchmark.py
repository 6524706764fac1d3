"""Measure speed side by side with what it is compared to, in one run.

python jobs/benchmark.py NAME --key value        (--help lists the names, NAME --help the keys)
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType

from jobs.benchmarks.tables import markdown_table
from jobs.cli import load, stop

BENCHMARKS = {
    "preprocess": "preprocessing against a plain loop, clips a second",
    "joints": "MediaPipe's joints against the true ones of the rendered clips",
    "generate": "the generator and each of its optimisations against plain code, seconds a clip",
    "detector": "the torch hand detector against MediaPipe, frames a second",
    "serve": "the service beside the bare pipeline, batches beside single clips, kills under load",
    "train-step": "optimisation steps with each economy and without, on one worker and on two",
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("-h", "--help"):
        print("usage: jobs/benchmark.py NAME [--key value ...]\n")
        print("\n".join(f"  {one:<12}{what}" for one, what in BENCHMARKS.items()))
        return
    if name not in BENCHMARKS:
        stop(f"benchmark: {name or 'no name'} given; one of {', '.join(BENCHMARKS)}")
    benchmark = load_benchmark(name)
    settings = load(benchmark.Settings, "benchmark", sys.argv[2:])
    if settings.result and not Path(settings.result).absolute().parent.is_dir():
        stop(f"result: {settings.result}: its folder is not there")
    try:
        measured = benchmark.measure(settings)
    except ValueError as error:
        stop(str(error))
    figures = {"command": " ".join(sys.argv), "cpus": os.cpu_count(), **measured}
    print(json.dumps(figures, indent=2))
    if settings.result:
        Path(settings.result).write_text(json.dumps(figures, indent=2))
    if "rows" in figures:
        print(f"\n{markdown_table(figures['rows'])}")


def load_benchmark(name: str) -> ModuleType:
    """Import one benchmark only: another one's libraries need not be installed."""
    try:
        return importlib.import_module(f"jobs.benchmarks.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        stop(f"benchmark: {name} needs {error.name}, which is not installed")


if __name__ == "__main__":
    run_job(main, resumes=False)
