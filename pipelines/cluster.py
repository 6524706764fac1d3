"""Start Ray, or join the cluster that `RAY_ADDRESS` names, with a console for a person."""

from __future__ import annotations

import logging
import os

import ray
from ray.data import DataContext


def join_cluster() -> None:
    """Start or join; nothing happens where that is done."""
    # Ray's core prints advice about Ray Data's own actors as errors.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if not ray.is_initialized():
        ray.init(logging_level=logging.ERROR, log_to_driver=False)


def quiet_ray_data() -> None:
    """Let the jobs show their own progress: Ray Data counts blocks, people count clips."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.issue_detectors_config.detectors = []
    logging.getLogger("ray.data").setLevel(logging.ERROR)
