"""What an epoch's stream is set to. Ray Data itself is shown in tests/integration."""

from types import SimpleNamespace

from ray.data import ExecutionResources

from handi_model.epochs import EpochPlan
from pipelines import epoch_stream
from pipelines.clip_index import ClipIndex
from pipelines.parquet_rows import Place


def test_a_stream_waits_for_its_workers_however_long_they_do_something_else(monkeypatch):
    class Dataset:
        context = SimpleNamespace(execution_no_progress_timeout_s=1800)

        def map(self, *_, **__):
            return self

        def streaming_split(self, workers, equal):
            return [self] * workers

    monkeypatch.setattr(epoch_stream.ray.data, "from_items", lambda *_, **__: Dataset())
    ids = ["a", "b"]
    places = [Place("clips.parquet", 0, row) for row in range(2)]
    index = ClipIndex("data", ids, ids, ["train"] * 2, places, 64, 64, 4, "0", ids)
    plan = EpochPlan(clips=2, batch_size=2, clips_per_pass=1, repeats=1, seed=0)
    (stream,) = epoch_stream.epoch_streams(
        index, None, [0, 1], plan, 0, 0, 1, ExecutionResources(cpu=1)
    )
    assert stream.context.execution_no_progress_timeout_s == -1, "a validation may take hours"
