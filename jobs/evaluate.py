"""Generate the clips of a test split, measure them, and lay the paper's numbers beside.

python jobs/evaluate.py --model RUN/model --data DATASET --output EVAL
python jobs/evaluate.py --clips FOLDER --data DATASET --output EVAL
python jobs/evaluate.py export --data DATASET --output BENCHMARK
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import sys
from contextlib import ExitStack

from jobs.cli import load, stop
from jobs.tracking import check_uri, tracking_uri
from pipelines.evaluation.clips import EvaluationSet, read_evaluation_set
from pipelines.evaluation.plan import Planned, plan
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.running.job_error import JobError
from pipelines.running.output_lease import held_output
from pipelines.storage import writable


def main() -> None:
    if sys.argv[1:2] == ["export"]:
        from jobs.evaluation.export import export

        return export(sys.argv[2:])
    settings = load(EvaluateSettings, "evaluate")
    with ExitStack() as held:
        try:
            clips = read_evaluation_set(settings.data, settings.split, settings.limit, settings.fps)
            planned = plan(settings, clips)
            describe(clips, planned)
            if settings.dry_run:
                return
            check_uri(tracking_uri())
            settings.output = writable(settings.output)
            held.enter_context(held_output(settings.output, "jobs/evaluate.py"))
        except ValueError as error:
            stop(str(error))
        evaluate(clips, planned, settings)


def evaluate(clips: EvaluationSet, planned: list[Planned], settings: EvaluateSettings) -> None:
    """Run what is planned.

    Raises:
        JobError: if the job cannot go on.
    """
    # The networks' libraries take long to import: mistakes before are told without them.
    from ray.exceptions import RayError

    from handi_model.hands.model_files import ModelFileError
    from jobs.evaluation.run import run, start
    from pipelines.running.ray_errors import reason

    try:
        origins = start(clips, settings)
    except (ModelFileError, ValueError) as error:
        stop(str(error))
    try:
        run(clips, planned, settings, origins)
    except RayError as error:  # a worker's own error, or its death
        raise JobError(f"evaluate: {reason(error)}; what is done so far stays") from error


def describe(clips: EvaluationSet, planned: list[Planned]) -> None:
    """What will be done, a line each."""
    of = f"split {clips.split}" if clips.split else "all splits"
    print(f"{len(clips)} clips ({of}) of {clips.index.data}")
    for name, members in clips.subsets().items():
        print(f"  {name}: {len(members)}")
    for one in planned:
        what = {"folder": f"{len(one.elsewhere)} clips of {one.method.clips}"}.get(one.method.kind)
        if one.made:
            what = f"{len(one.to_make(clips))} clips to generate with {one.method.model}"
            if one.trained_on:
                what += f", which was trained on {one.trained_on} of the {len(clips)} clips"
        print(f"  {one.method.name}: {what or 'made of the real clips'}")


if __name__ == "__main__":
    run_job(main)
