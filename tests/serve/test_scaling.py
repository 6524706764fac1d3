"""How many replicas there should be, by what waits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from serve.scaling import replicas_for_the_queue


@pytest.mark.parametrize(
    ("told", "requests", "replicas"),
    [
        (None, 0, 0),
        ({}, 0, 0),
        ({"jobs": {"a": 0.0}}, 0, 0),
        ({"jobs": {"a": 16.0}}, 0, 2),
        ({"jobs": {"a": 16.0, "b": 40.0}}, 0, 5),  # each tells the whole queue
        ({"jobs": {"a": 8.0}}, 8, 2),
    ],
)
def test_there_is_a_replica_for_each_batch_that_waits(told, requests, replicas):
    context = SimpleNamespace(
        aggregated_metrics=told,
        total_num_requests=requests,
        config=SimpleNamespace(target_ongoing_requests=8),
    )
    assert replicas_for_the_queue(context)[0] == replicas  # type: ignore[arg-type]
