"""Turn raw egocentric video into training data.

python jobs/preprocess.py --source folder --videos URL --output URL
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

from handi_model.hands.model_files import ModelFileError, hand_landmarker_task, sha256
from jobs.cli import load, stop
from jobs.tracking import track_run
from pipelines.annotations import Annotations, AnnotationsError
from pipelines.clip_table import read_clip_table
from pipelines.ledger import OutputError, claim, forget_failed, is_finished, read_ledger
from pipelines.settings import PreprocessSettings
from pipelines.storage import absolute, join


def main() -> None:
    settings = load(PreprocessSettings, "preprocess")
    try:
        settings.output = absolute(settings.output)
        table = read_clip_table(settings)
        for warning in table.warnings:
            print(f"warning: {warning}", file=sys.stderr)
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
    if not pending and not new_problems and is_finished(settings.output, done):
        print(f"nothing to do: all {len(table.clips)} clips are in {settings.output}")
    else:
        print(f"{len(table.clips)} clips, {pending} to do, {len(table.problems)} malformed rows")
        process(table, settings, sha256(model), earlier)
    print(f"report: {join(settings.output, 'report.html')}")


def process(
    table: Annotations, settings: PreprocessSettings, model_sha256: str, earlier: dict[str, int]
) -> None:
    """Run the graph over what is missing, and tell of the whole output."""
    # Ray Data and Matplotlib take seconds to import: a run with nothing to do goes without.
    from pipelines.preprocess import run, start_ray
    from pipelines.report import write_report
    from pipelines.summary import dataset_prior, summarize, write_prior, write_summary

    start_ray()
    detector = f"mediapipe {version('mediapipe')} hand_landmarker {model_sha256[:12]}"
    totals = run(table.clips, table.problems, settings, detector, earlier)
    prior = dataset_prior(settings.output)
    if prior is not None:
        write_prior(settings.output, prior)
    summary = summarize(settings, totals, detector)
    write_report(settings, summary, prior)
    write_summary(settings.output, summary)  # last: it says that the output is finished
    print(outcome(summary))
    track_run("preprocess", settings, summary, [join(settings.output, "report.html")])


def outcome(summary: dict[str, Any]) -> str:
    """One line about the whole output."""
    line = "{clips_in} clips: {written} written, {filtered} filtered, {failed} failed"
    if summary["malformed_rows"]:
        line += "; {malformed_rows} malformed rows"
    return line.format(**summary)


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
        print(f"  {problem.message}")
    print(f"would write to {settings.output}")


if __name__ == "__main__":
    main()
