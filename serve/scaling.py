"""How many replicas of the model there should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext


def replicas_for_the_queue(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """A replica for each batch of jobs, waiting or running, and of requests.

    Ray Serve calls it in its controller, into which this module is pickled: it imports nothing. The
    bounds and delays of the autoscaling config are Serve's to apply.
    """
    # Each replica tells the whole queue; one that has fallen silent tells that of before.
    told = (context.aggregated_metrics or {}).get("jobs", {})
    assert context.config
    work = max(told.values(), default=0.0) + context.total_num_requests
    return work / context.config.target_ongoing_requests, {}
