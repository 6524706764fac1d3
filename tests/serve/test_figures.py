"""The figures of several nodes as one exposition."""

from __future__ import annotations

import asyncio
import time

import ray
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from serve import figures
from serve.figures import FRESH_S, Scrape, live_replicas

LIVE = {"1", "2"}


def merged(texts: list[str], live: set[str] = LIVE) -> bytes:
    return figures.merged(texts, live)


def of_node(node: str, jobs: int) -> str:
    return f"""\
# HELP ray_handi_jobs_ended_total Jobs by outcome.
# TYPE ray_handi_jobs_ended_total counter
ray_handi_jobs_ended_total{{NodeAddress="{node}",replica="{node[-1]}",outcome="completed"}} {jobs}
# HELP ray_handi_jobs Jobs by status.
# TYPE ray_handi_jobs gauge
ray_handi_jobs{{NodeAddress="{node}",replica="{node[-1]}",status="queued"}} {jobs + 1}
# HELP ray_handi_job_seconds From the request to the end of a job.
# TYPE ray_handi_job_seconds histogram
ray_handi_job_seconds_bucket{{NodeAddress="{node}",replica="{node[-1]}",le="1.0"}} 1
ray_handi_job_seconds_bucket{{NodeAddress="{node}",replica="{node[-1]}",le="+Inf"}} {jobs}
ray_handi_job_seconds_count{{NodeAddress="{node}",replica="{node[-1]}"}} {jobs}
ray_handi_job_seconds_sum{{NodeAddress="{node}",replica="{node[-1]}"}} 12.5
# HELP ray_serve_num_http_requests_total Requests.
# TYPE ray_serve_num_http_requests_total counter
ray_serve_num_http_requests_total{{NodeAddress="{node}",replica="{node[-1]}"}} 3
# HELP ray_node_cpu_count Of the node.
# TYPE ray_node_cpu_count gauge
ray_node_cpu_count{{NodeAddress="{node}",replica="{node[-1]}"}} 8
# HELP ray_handicraft Of somebody else.
# TYPE ray_handicraft gauge
ray_handicraft 1
python_info{{version="3"}} 1
"""


def away() -> dict[str, int]:
    """The counts of a store that is away."""
    raise OperationalError("", {}, Exception("no route to host"))


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_family_is_there_once_with_the_samples_of_every_node():
    text = merged([of_node("10.0.0.1", 5), of_node("10.0.0.2", 7)]).decode()
    headers = [line for line in text.splitlines() if line.startswith(("# TYPE", "# HELP"))]
    assert len(headers) == len(set(headers)) == 6
    found = samples(text)
    for node, jobs in (("10.0.0.1", 5), ("10.0.0.2", 7)):
        own = samples(of_node(node, jobs))
        for (name, labels), value in own.items():
            if name.startswith("ray_handi_"):
                assert found[name, labels] == value
    assert len(found) == 2 * 6


def test_the_types_stay():
    families = text_string_to_metric_families(merged([of_node("10.0.0.1", 5)]).decode())
    assert {family.name: family.type for family in families} == {
        "ray_handi_jobs_ended": "counter",
        "ray_handi_jobs": "gauge",
        "ray_handi_job_seconds": "histogram",
    }


def test_families_of_others_are_left_out():
    text = merged([of_node("10.0.0.1", 5)]).decode()
    for foreign in ("ray_node", "ray_serve", "ray_handicraft", "python_info"):
        assert foreign not in text


def test_what_is_merged_can_be_merged_again():
    once = merged([of_node("10.0.0.1", 5), of_node("10.0.0.2", 7)])
    assert samples(merged([once.decode()]).decode()) == samples(once.decode())


def test_nodes_that_do_not_answer_are_no_loss_to_the_others():
    assert merged(["", of_node("10.0.0.1", 5)]) == merged([of_node("10.0.0.1", 5)])
    assert merged([]) == merged(["", ""]) == b""


def test_a_replica_that_is_gone_is_told_of_no_more():
    texts = [of_node("10.0.0.1", 5), of_node("10.0.0.2", 7)]
    found = samples(merged(texts, {"2"}).decode())
    assert found == samples(merged(texts[1:]).decode())


def test_the_live_replicas_are_the_clusters_named_actors(monkeypatch):
    actors = [
        {"namespace": "serve", "name": "SERVE_REPLICA::handi#Generator#abc"},
        {"namespace": "serve", "name": "SERVE_CONTROLLER_ACTOR"},
        {"namespace": "other", "name": "SERVE_REPLICA::handi#Generator#def"},
    ]
    monkeypatch.setattr(ray.util, "list_named_actors", lambda all_namespaces: actors)
    assert "abc" in live_replicas() and "def" not in live_replicas()


def test_however_many_ask_the_nodes_are_asked_once(monkeypatch):
    asked = []

    async def exported() -> list[str]:
        asked.append(1)
        await asyncio.sleep(0)
        return [of_node("10.0.0.1", len(asked))]

    monkeypatch.setattr(figures, "_exported", exported)
    monkeypatch.setattr(figures, "live_replicas", lambda: LIVE)
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    async def scrapes() -> None:
        nonlocal now
        scrape = Scrape(away)
        first = await asyncio.gather(*(scrape() for _ in range(20)))
        assert set(first) == {merged([of_node("10.0.0.1", 1)])} and len(asked) == 1
        now += FRESH_S
        assert await scrape() == merged([of_node("10.0.0.1", 2)])

    asyncio.run(scrapes())


def test_the_queue_is_told_from_the_store_and_left_out_where_that_is_away(monkeypatch):
    async def exported() -> list[str]:
        return []

    monkeypatch.setattr(figures, "_exported", exported)
    monkeypatch.setattr(figures, "live_replicas", lambda: LIVE)
    told = asyncio.run(Scrape(lambda: {"queued": 3, "in_progress": 1})()).decode()
    labels = [(("status", "queued"),), (("status", "in_progress"),)]
    assert samples(told) == {
        ("ray_handi_jobs", one): count for one, count in zip(labels, (3, 1), strict=True)
    }
    assert asyncio.run(Scrape(away)()) == b""
