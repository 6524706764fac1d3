"""Turn raw egocentric video into training data.

python jobs/preprocess.py --source folder --videos URL --output URL
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import json
import os
import sys
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

from handi_model.hands.model_files import ModelFileError, hand_landmarker_task, sha256
from jobs.cli import load, stop
from jobs.tracking import check_uri, track_run, tracking_uri
from pipelines.annotations import Annotations
from pipelines.clip_table import read_clip_table
from pipelines.ledger import (
    Ledger,
    begin,
    check_same_rows,
    forget_failed,
    is_finished,
    read_ledger,
    remove_damaged,
)
from pipelines.running.job_error import JobError
from pipelines.running.output_lease import held_output
from pipelines.running.refusal import ends_job
from pipelines.settings import PreprocessSettings
from pipelines.storage import join, read_bytes, writable


def main() -> None:
    settings = load(PreprocessSettings, "preprocess")
    with ExitStack() as held:
        try:
            table = read_clip_table(settings)
            for warning in table.warnings:
                print(f"warning: {warning}", file=sys.stderr)
            if settings.dry_run:
                describe(table, settings)
                return
            model = hand_landmarker_task(settings.hand_model)
            if os.environ.get("MLFLOW_TRACKING_URI"):
                check_uri(tracking_uri())
            settings.output = writable(settings.output)
            held.enter_context(held_output(settings.output, "jobs/preprocess.py"))
            done = Ledger({})
            if not settings.overwrite:
                check_same_rows(settings.output, settings)
                done = read_ledger(settings.output)
        except (ModelFileError, ValueError) as error:
            stop(str(error))
        fill(table, settings, sha256(model), done)


def fill(table: Annotations, settings: PreprocessSettings, model_sha256: str, done: Ledger) -> None:
    """Do what the output lacks.

    Raises:
        JobError: if that cannot be done, or no clip came to be written.
    """
    for file in done.damaged:
        print(f"warning: {file.url} is damaged: {file.why}; done again", file=sys.stderr)
    again = settings.retry_failed and done.count()["errors"] > 0
    pending = sum(clip.clip_id not in done for clip in table.clips)
    new_problems = any(problem.clip_id not in done for problem in table.problems)
    if not (pending or new_problems or again) and is_finished(settings.output, done):
        print(f"nothing to do: all {len(table.clips)} clips are in {settings.output}")
        summary = json.loads(read_bytes(join(settings.output, "summary.json")))
    else:
        print(f"{len(table.clips)} clips, {pending} to do, {len(table.problems)} malformed rows")
        summary = process(table, settings, model_sha256, done)
    print(f"report: {join(settings.output, 'report.html')}")
    if not summary["written"]:
        raise JobError(f"no clip was written: {commonest(summary)}")


def process(
    table: Annotations, settings: PreprocessSettings, model_sha256: str, done: Ledger
) -> dict[str, Any]:
    """Run the graph over what is missing, and tell of the whole output: gives its summary."""
    # Ray Data and Matplotlib take seconds to import: a run with nothing to do goes without.
    from pipelines.preprocess import run, start_ray
    from pipelines.prior import write_prior
    from pipelines.report import write_report
    from pipelines.summary import dataset_prior, summarize, write_summary

    start_ray(settings)
    # All that can be known to fail is behind: only now is anything deleted.
    begin(settings.output, settings)
    remove_damaged(done)
    earlier = forget_failed(settings.output) if settings.retry_failed else {}
    detector = f"mediapipe {version('mediapipe')} hand_landmarker {model_sha256[:12]}"
    totals = run(table.clips, table.problems, settings, detector, earlier)
    prior = dataset_prior(settings.output)
    with ends_job(settings.output):
        if prior:
            write_prior(settings.output, prior)
        summary = summarize(settings, totals, detector, prior)
        write_report(settings, summary, prior)
        write_summary(settings.output, summary)  # last: it says that the output is finished
    print(outcome(summary))
    if prior and prior.left_out:
        print(prior)
    if summary["failed"] and summary["written"]:
        print(commonest(summary))
    report = join(settings.output, "report.html")
    track_run("preprocess", settings, settings.output, summary, [report])
    return summary


def commonest(summary: dict[str, Any]) -> str:
    """The reason that most clips failed or were filtered for, with its count."""
    for what in ("failed", "filtered"):
        if reasons := summary[f"{what}_by"]:
            reason, count = max(reasons.items(), key=lambda item: item[1])
            message = summary.get("failed_for", {}).get(reason, "") if what == "failed" else ""
            example = f" ({message})" if message else ""
            return f"{what} most often: {reason}, {count} of {summary[what]}{example}"
    return "there was none"


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
    run_job(main)
