"""What the driver relies on in Ray Data, shown on Ray Data itself."""

from __future__ import annotations

import logging
import os

import pytest
import ray
from ray.data import TaskPoolStrategy

from pipelines.preprocess import _one_retry, configure_ray_data


@pytest.fixture
def small_ray():
    ray.init(num_cpus=2, logging_level=logging.ERROR, include_dashboard=False)
    configure_ray_data()
    yield
    ray.shutdown()


def test_a_worker_that_dies_costs_its_own_block_only(small_ray):
    def die_on_two(row):
        if row["id"] == 2:
            os._exit(1)
        yield row

    rows = (
        ray.data.from_items([{"id": number} for number in range(5)], override_num_blocks=5)
        .flat_map(
            die_on_two,
            compute=TaskPoolStrategy(size=1),
            num_cpus=0.4,
            ray_remote_args_fn=_one_retry,
        )
        .iter_rows()
    )
    assert sorted(row["id"] for row in rows) == [0, 1, 3, 4]
