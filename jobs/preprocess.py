"""Turn raw egocentric video into training data.

python jobs/preprocess.py --source folder --videos URL --output URL
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import version

import ray

from handi_model.hands.model_files import ModelFileError, hand_landmarker_task, sha256
from jobs.cli import load, stop
from jobs.tracking import track_run
from pipelines.annotations import Annotations, AnnotationsError
from pipelines.clip_table import read_clip_table
from pipelines.ledger import OutputError, claim, forget_failed, read_ledger
from pipelines.preprocess import configure_ray_data, run
from pipelines.report import write_report
from pipelines.settings import PreprocessSettings
from pipelines.storage import absolute, exists, join
from pipelines.summary import dataset_prior, summarize, write_prior, write_summary


def main() -> None:
    settings = load(PreprocessSettings, "preprocess")
    try:
        settings.output = absolute(settings.output)
        table = read_clip_table(settings)
        if settings.dry_run:
            describe(table, settings)
            return
        model = hand_landmarker_task(settings.hand_model)
        claim(settings.output, settings)
        earlier = forget_failed(settings.output) if settings.retry_failed else {}
    except (AnnotationsError, OutputError, ModelFileError) as error:
        stop(str(error))
    except (ValueError, ImportError) as error:  # fsspec: no storage for such a URL
        stop(f"output: {settings.output}: {error}")

    done = read_ledger(settings.output)
    pending = sum(clip.clip_id not in done for clip in table.clips)
    new_problems = any(problem.clip_id not in done for problem in table.problems)
    report = join(settings.output, "report.html")
    if not pending and not new_problems and exists(report):
        print(f"nothing to do: all {len(table.clips)} clips are in {settings.output}")
        print(f"report: {report}")
        return
    print(f"{len(table.clips)} clips, {pending} to do, {len(table.problems)} malformed rows")

    # Ray's core prints advice about Ray Data's own actors as errors.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.init(logging_level=logging.ERROR, log_to_driver=False)
    configure_ray_data()
    detector = f"mediapipe {version('mediapipe')} hand_landmarker {sha256(model)[:12]}"
    totals = run(table.clips, table.problems, settings, detector, earlier)
    prior = dataset_prior(settings.output)
    if prior is not None:
        write_prior(settings.output, prior)
    summary = summarize(settings, totals, detector)
    write_summary(settings.output, summary)
    write_report(settings, summary, prior)
    outcome = "{clips_in} clips: {written} written, {filtered} filtered, {failed} failed"
    print(outcome.format(**summary))
    print(f"report: {report}")
    track_run("preprocess", settings, summary, [report])


def describe(table: Annotations, settings: PreprocessSettings) -> None:
    """Print what a run would do."""
    videos = {clip.video_uri for clip in table.clips}
    known = [clip.stop_s - clip.start_s for clip in table.clips if clip.stop_s is not None]
    print(
        f"{len(table.clips)} clips of {len(videos)} videos, {sum(known):.1f} s of known stretches"
    )
    for clip in table.clips[:5]:
        stop_s = "end" if clip.stop_s is None else f"{clip.stop_s:.2f}"
        print(f"  {clip.clip_id}: {clip.narration!r}, {clip.start_s:.2f}-{stop_s} s")
    print(f"{len(table.problems)} malformed rows")
    for problem in table.problems[:5]:
        print(f"  {problem.clip_id}: {problem.message}")
    print(f"would write to {settings.output}")


if __name__ == "__main__":
    main()
