import pytest

from pipelines.running import workers
from pipelines.running.workers import Workers, one_worker, place_workers


@pytest.fixture
def cluster(monkeypatch):
    def has(**resources):
        monkeypatch.setattr(workers.ray, "cluster_resources", lambda: resources)

    return has


def test_there_is_a_worker_a_gpu_or_a_processor(cluster):
    cluster(CPU=8.0, GPU=2.0)
    assert place_workers(None, 100) == Workers(2, 1, None)
    cluster(CPU=8.0)
    assert place_workers(None, 100) == Workers(8, None, 0.9)


def test_there_are_never_more_than_there_is_work(cluster):
    cluster(CPU=8.0)
    assert place_workers(None, 3).actors == 3
    assert place_workers(16, 3).actors == 3
    assert place_workers(1, 3).actors == 1


def test_who_computes_on_processors_leaves_the_gpus_alone(cluster):
    cluster(CPU=8.0, GPU=2.0)
    assert place_workers(None, 100, "cpu") == Workers(8, None, 0.9)
    assert one_worker("cpu") == {"num_cpus": 0.9}
    assert one_worker(None) == {"num_gpus": 1}
