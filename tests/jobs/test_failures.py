from jobs.training.failures import of_workers
from pipelines.running.ray_errors import reason


def test_of_a_workers_own_error_the_last_line_is_told_and_of_its_death_the_first():
    own = RuntimeError(
        "ray::Worker()\n  File ...\nDatasetError: data: x holds no clips\nTo retry, see the manual."
    )
    assert reason(own) == "DatasetError: data: x holds no clips"
    assert reason(RuntimeError("The actor died unexpectedly.\n\tclass_name: ...")) == (
        "The actor died unexpectedly."
    )
    assert reason(KeyError()) == "KeyError"


def test_the_worker_that_died_is_named_and_not_the_one_that_missed_it():
    failures = {
        0: RuntimeError("Traceback ...\nRuntimeError: [gloo/transport/tcp/pair.cc] closed"),
        1: RuntimeError("The actor died unexpectedly."),
    }
    assert of_workers(failures) == "worker 1: The actor died unexpectedly."
    assert of_workers({0: failures[0]}).startswith("worker 0: RuntimeError: [gloo")
