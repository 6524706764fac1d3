"""What stops an evaluation, and what does not."""

from collections.abc import Callable

import numpy as np
import pytest
from ray.exceptions import ActorDiedError

from jobs.evaluation import run as module
from pipelines.clip_index import ClipIndex
from pipelines.evaluation.clips import EvaluationSet
from pipelines.evaluation.networks import Origins
from pipelines.evaluation.plan import plan
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.parquet_rows import Place
from pipelines.running.job_error import JobError

IDS = ["a", "b", "c"]


@pytest.fixture
def evaluated(tmp_path, monkeypatch) -> Callable[[], list[str]]:
    """Evaluate three clips without Ray; gives the problems that the tables tell of."""
    places = [Place("", 0, 0)] * len(IDS)
    index = ClipIndex("data", IDS, IDS, ["test"] * len(IDS), places, 64, 64, 4, "0", IDS)
    clips = EvaluationSet(index, ["folder"] * len(IDS), np.zeros(len(IDS)), "test")
    settings = EvaluateSettings(data="data", output=str(tmp_path))
    written: list[list[str]] = []
    monkeypatch.setattr(module, "finished", lambda _: {"a"})
    monkeypatch.setattr(module, "measured", lambda *given: given[-1])
    monkeypatch.setattr(module, "finish", lambda result, *_: written.append(result))

    def run() -> list[str]:
        try:
            module.run(clips, plan(settings, clips), settings, Origins({}, {}, "0"))
        finally:
            assert len(written) == 1, "the tables are written in any case"
        return written[0]

    run.written = written  # type: ignore[attr-defined]
    return run


def test_a_clip_that_kills_its_worker_is_tried_alone_and_then_a_problem(evaluated, monkeypatch):
    runs = []

    def score(clips, wanted, settings, origins, alone):
        runs.append(([*wanted], alone))
        for clip, methods in wanted.items():
            if clip != 1:
                yield clip, len(methods), ["still frame: a: no hands"] if clip == 0 else []

    monkeypatch.setattr(module, "score", score)
    first, second = evaluated()
    assert runs == [([0, 1, 2], False), ([1], True)]
    assert first == "still frame: a: no hands"
    assert second.startswith("b: the process that worked on this clip died each of 2 times")


def test_workers_that_cannot_be_started_do_not_cost_the_tables(evaluated, monkeypatch):
    def score(*_):
        yield 0, 4, []
        raise ActorDiedError

    monkeypatch.setattr(module, "score", score)
    with pytest.raises(JobError, match=r"^measuring broke off: .*a second run goes on$"):
        evaluated()
    ((broken,),) = evaluated.written
    assert broken.startswith("measuring broke off: ")
