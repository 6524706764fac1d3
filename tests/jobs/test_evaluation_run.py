"""What stops an evaluation, and what does not."""

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

IDS = ["a", "b", "c"]


@pytest.fixture
def dying(monkeypatch) -> None:
    """A worker looks at one clip, and dies over the next."""

    def score(*_):
        yield 4, ["still frame: a: no hands"]
        raise ActorDiedError

    monkeypatch.setattr(module, "score", score)


def test_a_clip_over_which_a_worker_dies_does_not_cost_the_tables(dying, tmp_path, monkeypatch):
    places = [Place("", 0, 0)] * len(IDS)
    index = ClipIndex("data", IDS, IDS, ["test"] * len(IDS), places, 64, 64, 4, "0", IDS)
    clips = EvaluationSet(index, ["folder"] * len(IDS), np.zeros(len(IDS)), "test")
    settings = EvaluateSettings(data="data", output=str(tmp_path))
    written = []
    for name in ("join_cluster", "quiet_ray_data"):
        monkeypatch.setattr(module, name, lambda: None)
    origins = Origins({}, {}, "0")
    monkeypatch.setattr(module, "find_networks", lambda *_: origins)
    monkeypatch.setattr(module, "measured", lambda *given: given[-1])
    monkeypatch.setattr(module, "finish", lambda result, *_: written.append(result))
    with pytest.raises(ValueError, match=r"^measuring broke off: .*a second run goes on$"):
        module.run(clips, plan(settings, clips), settings)
    ((clip, broken),) = written
    assert clip == "still frame: a: no hands" and broken.startswith("measuring broke off: ")
