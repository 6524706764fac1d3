"""What a finished output says about itself: the prior, the summary, and the counts that add up."""

from __future__ import annotations

import io
import json
import platform
from collections import Counter
from importlib.metadata import version
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from pipelines.dataset import read_columns
from pipelines.frames import decode_mask
from pipelines.ledger import read_ledger
from pipelines.preprocess import RunTotals
from pipelines.records import ANNOTATIONS, SCHEMA_VERSION
from pipelines.settings import PreprocessSettings
from pipelines.storage import find, join, write_bytes

PACKAGES = ("handi", "ray", "mediapipe", "av", "opencv-contrib-python", "numpy", "pyarrow")


def dataset_prior(output: str) -> NDArray[np.float32] | None:
    """Average the training masks of an output over the cluster.

    Each task counts the masks of some files pixel by pixel; the counts are integers, so that the
    mean is the same however they are summed. None where no clip was written.

    Returns:
        float32 (H, W) in [0, 1]; the frequency prior of `handi_model.masks`, distributed.
    """
    files = find(join(output, "clips"), ".parquet")
    if not files:
        return None
    counts, clips = zip(*ray.get([count_masks.remote(file) for file in files]), strict=True)
    return np.asarray(np.sum(counts, axis=0) / sum(clips), np.float32)


@ray.remote(num_cpus=0.5)
def count_masks(file: str) -> tuple[NDArray[np.int64], int]:
    """How often each pixel of a file's masks is set, (H, W), and how many masks it has."""
    import pyarrow.parquet as pq
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(file)
    with fs.open(path, "rb") as source:
        masks = pq.read_table(source, columns=["mask"])["mask"].to_pylist()
    return np.sum([decode_mask(mask) for mask in masks], axis=0, dtype=np.int64), len(masks)


def write_prior(output: str, prior: NDArray[np.float32]) -> None:
    data = io.BytesIO()
    np.save(data, prior, allow_pickle=False)
    write_bytes(join(output, "prior.npy"), data.getvalue())


def summarize(
    settings: PreprocessSettings, totals: RunTotals, detector_name: str
) -> dict[str, Any]:
    """Count the whole output, and describe the run that completed it.

    `clips_in` is the sum of `written`, `filtered` and `failed`; `malformed_rows` stand in `errors`
    too, but no clip stands behind them.
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
