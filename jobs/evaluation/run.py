"""From a plan to tables and page: generate what is missing, measure it, write it all down."""

from __future__ import annotations

from ray.data import DataContext
from ray.exceptions import RayError
from tqdm import tqdm

from handi_model.damage import DamagedFile
from jobs.cli import recipe
from jobs.dataset_input import dataset_input
from jobs.evaluation.page import write_page
from jobs.evaluation.result import Result, measured
from jobs.evaluation.tables import as_csv, markdown
from jobs.experiment import Experiment
from jobs.tracking import run_name
from pipelines.evaluation.clips import EvaluationSet
from pipelines.evaluation.generate import generate
from pipelines.evaluation.networks import Origins, find_networks
from pipelines.evaluation.plan import Planned, ToScore, finished
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.score import score
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.patience import patient
from pipelines.running.cluster import join_cluster, quiet_ray_data
from pipelines.running.job_error import JobError
from pipelines.running.lost_rows import LostRows, died, tolerate_losses
from pipelines.running.ray_errors import reason
from pipelines.running.refusal import ends_job
from pipelines.storage import join, remove, write_bytes

NO_PROGRESS_S = -1
"""A clip may take hours on a processor; a detector that hangs has a deadline of its own."""


def start(clips: EvaluationSet, settings: EvaluateSettings) -> Origins:
    """Start or join Ray, and look for the networks.

    Raises:
        ValueError: over a network's path, or without MediaPipe's model, in one line.
        JobError: if Ray does not start.
    """
    join_cluster()
    quiet_ray_data(NO_PROGRESS_S)
    tolerate_losses(DataContext.get_current())
    return find_networks(settings, clips.index.num_frames)


def run(
    clips: EvaluationSet, planned: list[Planned], settings: EvaluateSettings, origins: Origins
) -> None:
    """Evaluate. What is there already, of an earlier run, is taken.

    Raises:
        JobError: once all else is done, if a method could not make any clip, nothing was measured
            or measuring broke off; at once if the output cannot be written.
    """
    for key, why in origins.missing.items():
        print(f"not measured, {key}: {why}")
    scores = join(settings.output, "scores", origins.fingerprint)
    problems = make_all(clips, planned, settings)
    problems += score_all(clips, planned, scores, settings, origins)
    try:
        result = measured(clips, planned, scores, settings, origins, problems)
    except DamagedFile as error:
        remove(error.url)
        raise JobError(
            f"{error.url} was damaged: {error.why}; run the same command again"
        ) from error
    finish(result, clips, planned, scores, settings)
    if problems and not any(finished(join(scores, one.key)) for one in planned):
        raise JobError(f"nothing could be measured: {problems[0]}")
    for said in problems:
        if said.startswith(BROKEN_OFF):
            raise JobError(f"{said}; the tables tell of what is measured, a second run goes on")
    for one in planned:
        if one.made and not one.done(clips):
            own = (said for said in problems if said.startswith(f"{one.method.name}: "))
            why = next(own, f"{one.method.name}: it has made nothing")
            raise JobError(f"{why}; none of its clips could be made, all else is done")


def make_all(clips: EvaluationSet, planned: list[Planned], settings: EvaluateSettings) -> list[str]:
    """Generate what is missing; gives a line for each clip, or method, that could not be made."""
    problems = []
    for one in planned:
        if wanted := one.to_make(clips):
            with tqdm(total=len(wanted), unit="clip", desc=one.method.name, mininterval=1.0) as bar:
                lines = make(clips, wanted, one, settings, bar)
            problems += [f"{one.method.name}: {line}" for line in lines]
    return problems


def make(
    clips: EvaluationSet, wanted: list[int], one: Planned, settings: EvaluateSettings, bar: tqdm
) -> list[str]:
    """Generate a method's clips, those that were lost with their process once more and alone."""
    ids, lines = clips.index.clip_ids, []
    with LostRows() as losses:
        for alone in (False, True):
            came = set()
            try:
                for clip_id, problem in generate(clips, wanted, one, settings, alone):
                    came.add(clip_id)
                    bar.update()
                    if problem:
                        lines.append(f"{clip_id}: {problem}")
            except RayError as error:  # a model that cannot be loaded
                return [*lines, reason(error)]
            wanted = [clip for clip in wanted if ids[clip] not in came]
            if not wanted:
                break
    return lines + [f"{ids[clip]}: {died(losses)}" for clip in wanted]


BROKEN_OFF = "measuring broke off"


def score_all(
    clips: EvaluationSet,
    planned: list[Planned],
    scores: str,
    settings: EvaluateSettings,
    origins: Origins,
) -> list[str]:
    """Measure what is not measured yet; gives a line for each clip that could not be.

    As in generation, what was lost with its process is tried once more, and alone.
    """
    wanted: dict[int, list[ToScore]] = {}
    for one in planned:
        for clip, to_score in one.to_score(clips, scores).items():
            wanted.setdefault(clip, []).append(to_score)
    problems: list[str] = []
    total = sum(map(len, wanted.values()))
    with (
        LostRows() as losses,
        tqdm(total=total, unit="clip", desc="measure", mininterval=1.0) as bar,
    ):
        for alone in (False, True):
            if not wanted:
                break
            try:
                for clip, count, lines in score(clips, dict(wanted), settings, origins, alone):
                    del wanted[clip]
                    bar.update(count)
                    problems += lines
            except RayError as error:  # a detector that cannot be started, say
                return [*problems, f"{BROKEN_OFF}: {reason(error)}"]
    return problems + [f"{clips.index.clip_ids[clip]}: {died(losses)}" for clip in wanted]


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
        with ends_job(settings.output):
            patient(write_bytes)(url, data)
    name, inputs = run_name(settings.output, recipe()), [dataset_input(clips.index, "evaluation")]
    tags = {"handi.output": settings.output, "handi.protocol": PROTOCOL}
    keys = settings.model_dump()
    with Experiment.start(settings.experiment, name, keys, tags, datasets=inputs) as experiment:
        experiment.log_metrics(0, result.numbers())
        for file, data in files.items():
            experiment.log_bytes(file, data)
    print(table)
    print("\n".join(urls))
