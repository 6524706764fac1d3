"""A Ray that does not start is told in one line. No Ray is started."""

import pytest
import ray

from pipelines.running.cluster import join_cluster
from pipelines.running.job_error import JobError


def test_a_cluster_that_nobody_runs_is_one_line_that_names_the_variable(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    with pytest.raises(
        JobError, match=r"RAY_ADDRESS: .* 127\.0\.0\.1:1 cannot be joined: "
    ) as error:
        join_cluster()
    assert "\n" not in str(error.value)


def test_a_machine_under_heavy_load_is_one_line_that_says_what_to_do(monkeypatch):
    def times_out(**_):
        raise RuntimeError(
            "The current node timed out during startup.\nThis could happen because..."
        )

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", times_out)
    with pytest.raises(
        JobError, match=r"timed out during startup.*try again when it is less busy"
    ) as error:
        join_cluster()
    assert "\n" not in str(error.value)
