"""What a finished output says about itself: the prior, the summary, and the counts that add up."""

from __future__ import annotations

import json
import platform
from collections import Counter
from importlib.metadata import version
from typing import Any

import ray

from pipelines.dataset import read_columns
from pipelines.ledger import read_ledger
from pipelines.preprocess import RunTotals
from pipelines.prior import Prior, count_masks
from pipelines.records import ANNOTATIONS, SCHEMA_VERSION
from pipelines.settings import PreprocessSettings
from pipelines.storage import find, join, write_bytes

PACKAGES = ("handi", "ray", "mediapipe", "av", "opencv-contrib-python", "numpy", "pyarrow")


def dataset_prior(output: str) -> Prior | None:
    """Average the training masks of an output over the cluster, a task a file of clips.

    None where no clip was written.
    """
    files = find(join(output, "clips"), ".parquet")
    if not files:
        return None
    count = ray.remote(num_cpus=0.5)(count_masks)
    return Prior.of(ray.get([count.remote(file) for file in files]))


def summarize(
    settings: PreprocessSettings,
    totals: RunTotals,
    detector_name: str,
    prior: Prior | None = None,
) -> dict[str, Any]:
    """Count the whole output, and describe the run that completed it.

    `clips_in` is the sum of `written`, `filtered` and `failed`; `malformed_rows` stand in `errors`
    too, but no clip stands behind them. `prior` says of how many clips of which splits it is the
    mean, and how many stay out of it.
    """
    output = settings.output
    ledger = read_ledger(output)
    count = ledger.count()
    reasons = Counter(read_columns(join(output, "filtered"), ["reason"])["reason"].to_pylist())
    columns = ["clip_id", "error_type", "message", "stage"]
    problems = read_columns(join(output, "errors"), columns).to_pylist()
    failures = [problem for problem in problems if problem["stage"] != ANNOTATIONS]
    errors = Counter(problem["error_type"] for problem in failures)
    examples = {problem["error_type"]: problem["message"] for problem in reversed(failures)}
    return {
        "schema_version": SCHEMA_VERSION,
        "clips_in": sum(count.values()),
        "written": count["clips"],
        "filtered": count["filtered"],
        "failed": count["errors"],
        "malformed_rows": len(ledger.malformed),
        "filtered_by": dict(reasons.most_common()),
        "failed_by": dict(errors.most_common()),
        "failed_for": {kind: examples[kind] for kind, _ in errors.most_common()},
        "prior": prior.as_dict() if prior else None,
        "last_run": {
            "clips": totals.clips,
            "seconds": round(totals.seconds, 2),
            "clips_per_second": round(totals.clips / totals.seconds, 3) if totals.clips else 0.0,
            "stage_seconds": {k: round(v, 2) for k, v in totals.stage_seconds.items()},
        },
        "settings": settings.row_settings(),
        "detector": detector_name,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }


def write_summary(output: str, summary: dict[str, Any]) -> None:
    write_bytes(join(output, "summary.json"), json.dumps(summary, indent=2).encode())
