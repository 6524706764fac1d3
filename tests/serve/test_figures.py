"""The figures of several nodes as one exposition."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serve.figures import merged


def of_node(node: str, jobs: int) -> str:
    return f"""\
# HELP ray_handi_jobs_ended_total Jobs by outcome.
# TYPE ray_handi_jobs_ended_total counter
ray_handi_jobs_ended_total{{NodeAddress="{node}",outcome="completed"}} {jobs}
# HELP ray_handi_jobs Jobs by status.
# TYPE ray_handi_jobs gauge
ray_handi_jobs{{NodeAddress="{node}",status="queued"}} {jobs + 1}
# HELP ray_handi_job_seconds From the request to the end of a job.
# TYPE ray_handi_job_seconds histogram
ray_handi_job_seconds_bucket{{NodeAddress="{node}",le="1.0"}} 1
ray_handi_job_seconds_bucket{{NodeAddress="{node}",le="+Inf"}} {jobs}
ray_handi_job_seconds_count{{NodeAddress="{node}"}} {jobs}
ray_handi_job_seconds_sum{{NodeAddress="{node}"}} 12.5
# HELP ray_serve_num_http_requests_total Requests.
# TYPE ray_serve_num_http_requests_total counter
ray_serve_num_http_requests_total{{NodeAddress="{node}"}} 3
# HELP ray_node_cpu_count Of the node.
# TYPE ray_node_cpu_count gauge
ray_node_cpu_count{{NodeAddress="{node}"}} 8
# HELP ray_handicraft Of somebody else.
# TYPE ray_handicraft gauge
ray_handicraft 1
python_info{{version="3"}} 1
"""


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_family_is_there_once_with_the_samples_of_every_node():
    text = merged([of_node("10.0.0.1", 5), of_node("10.0.0.2", 7)]).decode()
    headers = [line for line in text.splitlines() if line.startswith(("# TYPE", "# HELP"))]
    assert len(headers) == len(set(headers)) == 8
    found = samples(text)
    for node, jobs in (("10.0.0.1", 5), ("10.0.0.2", 7)):
        own = samples(of_node(node, jobs))
        for (name, labels), value in own.items():
            if name.startswith(("ray_handi_", "ray_serve_")):
                assert found[name, labels] == value
    assert len(found) == 2 * 7


def test_the_types_stay():
    families = text_string_to_metric_families(merged([of_node("10.0.0.1", 5)]).decode())
    assert {family.name: family.type for family in families} == {
        "ray_handi_jobs_ended": "counter",
        "ray_handi_jobs": "gauge",
        "ray_handi_job_seconds": "histogram",
        "ray_serve_num_http_requests": "counter",
    }


def test_families_of_others_are_left_out():
    text = merged([of_node("10.0.0.1", 5)]).decode()
    for foreign in ("ray_node", "ray_handicraft", "python_info"):
        assert foreign not in text


def test_what_is_merged_can_be_merged_again():
    once = merged([of_node("10.0.0.1", 5), of_node("10.0.0.2", 7)])
    assert samples(merged([once.decode()]).decode()) == samples(once.decode())


def test_nodes_that_do_not_answer_are_no_loss_to_the_others():
    assert merged(["", of_node("10.0.0.1", 5)]) == merged([of_node("10.0.0.1", 5)])
    assert merged([]) == merged(["", ""]) == b""
