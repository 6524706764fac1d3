"""Generate the clips of a test split, measure them, and lay the paper's numbers beside.

python jobs/evaluate.py --model RUN/model --data DATASET --output EVAL
python jobs/evaluate.py --clips FOLDER --data DATASET --output EVAL
python jobs/evaluate.py export --data DATASET --output BENCHMARK
"""

from __future__ import annotations

import sys

from ray.exceptions import RayError
from tqdm import tqdm

from handi_model.hands.model_files import ModelFileError
from jobs.cli import load, stop
from jobs.evaluation.export import export
from jobs.evaluation.page import write_page
from jobs.evaluation.result import Result, measured
from jobs.evaluation.tables import as_csv, markdown
from jobs.experiment import Experiment
from jobs.tracking import check_uri, tracking_uri
from jobs.training.failures import reason
from pipelines.cluster import join_cluster, quiet_ray_data
from pipelines.evaluation.clips import EvaluationSet, read_evaluation_set
from pipelines.evaluation.generate import generate
from pipelines.evaluation.networks import Origins, find_networks
from pipelines.evaluation.plan import Planned, plan
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.score import ToScore, score
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.storage import absolute, join, writable, write_bytes


def main() -> None:
    if sys.argv[1:2] == ["export"]:
        return export(sys.argv[2:])
    settings = load(EvaluateSettings, "evaluate")
    try:
        settings.data, settings.output = absolute(settings.data), absolute(settings.output)
        clips = read_evaluation_set(settings.data, settings.split, settings.limit)
        check_uri(tracking_uri())
        planned = plan(settings, clips)
        describe(clips, planned)
        if settings.dry_run:
            return
        writable(settings.output)
        join_cluster()
        quiet_ray_data()
        problems = make_all(clips, planned, settings)
        origins = find_networks(settings, clips.index.num_frames)
        scores = join(settings.output, "scores", origins.fingerprint)
        problems += score_all(clips, planned, scores, settings, origins)
        result = measured(clips, planned, scores, settings, origins, problems)
    except (ValueError, ModelFileError) as error:
        stop(str(error))
    except RayError as error:  # a worker's own error, or its death
        stop(f"evaluate: {reason(error)}; what is done so far stays")
    finish(result, clips, planned, scores, settings)


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


def make_all(clips: EvaluationSet, planned: list[Planned], settings: EvaluateSettings) -> list[str]:
    """Generate what is missing; gives a line for each clip that could not be made."""
    problems = []
    for one in planned:
        wanted = one.to_make(clips)
        if not wanted:
            continue
        failed = {}
        with tqdm(total=len(wanted), unit="clip", desc=one.method.name, mininterval=1.0) as bar:
            for clip_id, problem in generate(clips, wanted, one, settings):
                bar.update()
                if problem:
                    failed[clip_id] = problem
        if len(failed) == len(wanted) and not one.done(clips):
            raise ValueError(f"{one.method.name}: {next(iter(failed.values()))}")
        problems += [f"{one.method.name}: {clip}: {why}" for clip, why in failed.items()]
    return problems


def score_all(
    clips: EvaluationSet,
    planned: list[Planned],
    scores: str,
    settings: EvaluateSettings,
    origins: Origins,
) -> list[str]:
    """Measure what is not measured yet; gives a line for each clip that could not be."""
    wanted: dict[int, list[ToScore]] = {}
    for one in planned:
        for clip, to_score in one.to_score(clips, scores).items():
            wanted.setdefault(clip, []).append(to_score)
    problems: list[str] = []
    if wanted:
        total = sum(map(len, wanted.values()))
        with tqdm(total=total, unit="clip", desc="measure", mininterval=1.0) as bar:
            for count, said in score(clips, wanted, settings, origins):
                bar.update(count)
                problems += said
    return problems


def finish(
    result: Result,
    clips: EvaluationSet,
    planned: list[Planned],
    scores: str,
    settings: EvaluateSettings,
) -> None:
    """Write tables and page, report them to MLflow, and say where they are."""
    table = markdown(result)
    files = {
        "table.md": table.encode(),
        "table.csv": as_csv(result),
        "metrics.json": result.as_json(),
        "report.html": write_page(result, clips, planned, scores, settings),
    }
    urls = [join(settings.output, name) for name in files]
    for url, data in zip(urls, files.values(), strict=True):
        write_bytes(url, data)
    name = settings.output.rstrip("/").rsplit("/", 1)[-1]
    tags = {"handi.output": settings.output, "handi.protocol": PROTOCOL}
    experiment = Experiment.start(settings.experiment, name, settings.model_dump(), tags)
    experiment.log_metrics(0, result.numbers())
    for file, data in files.items():
        experiment.log_bytes(file, data)
    experiment.close()
    print(table)
    print("\n".join(urls))


if __name__ == "__main__":
    main()
