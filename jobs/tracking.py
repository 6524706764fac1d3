"""Report a job to MLflow, where a tracking server is named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipelines.storage import read_bytes


def track_run(
    experiment: str, settings: BaseModel, results: dict[str, Any], artifacts: Iterable[str]
) -> None:
    """Log settings as parameters, numbers among the results as metrics, and files as artifacts.

    Nothing happens unless `MLFLOW_TRACKING_URI` is set.

    Args:
        results: nested dicts become metric names joined by a slash.
        artifacts: URLs.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return
    import mlflow

    mlflow.set_experiment(f"handi-{experiment}")
    with mlflow.start_run():
        mlflow.log_params(settings.model_dump())
        mlflow.log_metrics(dict(_numbers(results)))
        with tempfile.TemporaryDirectory() as folder:
            for url in artifacts:
                file = Path(folder) / url.rsplit("/", 1)[-1]
                file.write_bytes(read_bytes(url))
                mlflow.log_artifact(str(file))


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, Real) and not isinstance(value, bool):
            yield prefix + name, float(value)
