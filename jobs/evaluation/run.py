"""From a plan to tables and page: generate what is missing, measure it, write it all down."""

from __future__ import annotations

from ray.exceptions import RayError
from tqdm import tqdm

from jobs.evaluation.page import write_page
from jobs.evaluation.result import Result, measured
from jobs.evaluation.tables import as_csv, markdown
from jobs.experiment import Experiment
from jobs.training.failures import reason
from pipelines.cluster import join_cluster, quiet_ray_data
from pipelines.evaluation.clips import EvaluationSet
from pipelines.evaluation.generate import generate
from pipelines.evaluation.networks import Origins, find_networks
from pipelines.evaluation.plan import Planned, ToScore
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.score import score
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.storage import join, write_bytes


def run(clips: EvaluationSet, planned: list[Planned], settings: EvaluateSettings) -> None:
    """Evaluate. What is there already, of an earlier run, is taken.

    Raises:
        ValueError: over a network's path, without MediaPipe's model, or, once all else is done,
            if a method could not make any clip or not all clips were looked at, in one line.
    """
    join_cluster()
    quiet_ray_data()
    origins = find_networks(settings, clips.index.num_frames)
    for key, why in origins.missing.items():
        print(f"not measured, {key}: {why}")
    scores = join(settings.output, "scores", origins.fingerprint)
    problems = make_all(clips, planned, settings)
    problems += score_all(clips, planned, scores, settings, origins)
    result = measured(clips, planned, scores, settings, origins, problems)
    finish(result, clips, planned, scores, settings)
    for said in problems:
        if said.startswith(BROKEN_OFF):
            raise ValueError(f"{said}; the tables tell of what is measured, a second run goes on")
    for one in planned:
        if one.made and not one.done(clips):
            own = (said for said in problems if said.startswith(f"{one.method.name}: "))
            why = next(own, f"{one.method.name}: it has made nothing")
            raise ValueError(f"{why}; none of its clips could be made, all else is done")


def make_all(clips: EvaluationSet, planned: list[Planned], settings: EvaluateSettings) -> list[str]:
    """Generate what is missing; gives a line for each clip, or method, that could not be made."""
    problems = []
    for one in planned:
        wanted = one.to_make(clips)
        if not wanted:
            continue
        with tqdm(total=len(wanted), unit="clip", desc=one.method.name, mininterval=1.0) as bar:
            try:
                for clip_id, problem in generate(clips, wanted, one, settings):
                    bar.update()
                    if problem:
                        problems.append(f"{one.method.name}: {clip_id}: {problem}")
            except RayError as error:  # a model that cannot be loaded, a worker that died
                problems.append(f"{one.method.name}: {reason(error)}")
    return problems


BROKEN_OFF = "measuring broke off"


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
            try:
                for count, said in score(clips, wanted, settings, origins):
                    bar.update(count)
                    problems += said
            except RayError as error:  # a clip over which a worker dies each time, say
                problems.append(f"{BROKEN_OFF}: {reason(error)}")
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
