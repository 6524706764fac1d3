"""Generate the clips of a test split, measure them, and lay the paper's numbers beside.

python jobs/evaluate.py --model RUN/model --data DATASET --output EVAL
python jobs/evaluate.py --clips FOLDER --data DATASET --output EVAL
python jobs/evaluate.py export --data DATASET --output BENCHMARK
"""

from __future__ import annotations

import sys

from jobs.cli import load, stop
from jobs.tracking import check_uri, tracking_uri
from pipelines.evaluation.clips import EvaluationSet, read_evaluation_set
from pipelines.evaluation.plan import Planned, plan
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.storage import writable


def main() -> None:
    if sys.argv[1:2] == ["export"]:
        from jobs.evaluation.export import export

        return export(sys.argv[2:])
    settings = load(EvaluateSettings, "evaluate")
    try:
        settings = settings.with_absolute_paths()
        clips = read_evaluation_set(settings.data, settings.split, settings.limit)
        planned = plan(settings, clips)
        describe(clips, planned)
        if settings.dry_run:
            return
        check_uri(tracking_uri())
        writable(settings.output)
    except ValueError as error:
        stop(str(error))

    # The networks' libraries take long to import: a mistake above is told without them.
    from ray.exceptions import RayError

    from handi_model.hands.model_files import ModelFileError
    from jobs.evaluation.run import run
    from jobs.training.failures import reason

    try:
        run(clips, planned, settings)
    except (ValueError, ModelFileError) as error:
        stop(str(error))
    except RayError as error:  # a worker's own error, or its death
        stop(f"evaluate: {reason(error)}; what is done so far stays")


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
        print(f"  {one.method.name}: {what or 'made of the real clips'}")


if __name__ == "__main__":
    main()
