"""What the graphs rely on in Ray Data, shown on Ray Data itself: losses, shards, interrupts."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from ray.data import DataContext
from tqdm import tqdm

from jobs.evaluation import run as evaluation
from pipelines import encode, preprocess
from pipelines.clip_index import ClipIndex
from pipelines.dataset import read_columns
from pipelines.evaluation import generate, score
from pipelines.evaluation.clips import EvaluationSet
from pipelines.evaluation.networks import Origins
from pipelines.evaluation.plan import Planned, ToScore
from pipelines.evaluation.settings import EvaluateSettings, MethodSettings
from pipelines.ledger import read_ledger
from pipelines.parquet_rows import Place
from pipelines.records import Clip, Outcome
from pipelines.running.lost_rows import LostRows, tolerate_losses
from pipelines.running.shards import Shards, WriteError, stream
from pipelines.settings import PreprocessSettings
from pipelines.storage import join

IDS = ["a", "b", "c", "d"]
KILLER = "c"


@pytest.fixture(scope="module", autouse=True)
def small_ray():
    ray.init(num_cpus=2, logging_level=logging.ERROR, include_dashboard=False)
    preprocess.configure_ray_data(clip_deadline_s=60)
    yield
    ray.shutdown()


@pytest.fixture
def index() -> ClipIndex:
    places = [Place("clips.parquet", 0, row) for row in range(len(IDS))]
    splits = ["test"] * len(IDS)
    return ClipIndex("data", IDS, ["lift box"] * len(IDS), splits, places, 64, 64, 4, "0", IDS)


def tries(folder: Path) -> Counter[str]:
    """How often each clip was begun."""
    return Counter((folder / "begun").read_text().split())


def test_a_clip_that_kills_its_annotator_is_tried_twice_and_recorded(tmp_path, monkeypatch):
    class Annotate:
        def __init__(self, settings, detector_name):
            pass

        def __call__(self, row):
            clip = Clip(**json.loads(row["clip"]))
            with open(tmp_path / "begun", "a") as begun:
                begun.write(f"{clip.clip_id} ")
            if clip.clip_id == KILLER:
                os.kill(os.getpid(), signal.SIGKILL)
            outcome = Outcome.filtered(clip, "min_hand_rate", 0.0)
            return {"folder": outcome.folder, "record": outcome.to_ipc(), "seconds": "{}"}

    def decode(row, settings):
        for fields in json.loads(row["clips"]):
            yield {"clip": json.dumps(fields)}

    monkeypatch.setattr(preprocess, "AnnotateClip", Annotate)
    monkeypatch.setattr(preprocess, "decode_video", decode)
    clips = [Clip(name, "folder", "", "v.mp4", 0.0, 1.0, "") for name in IDS]
    output = str(tmp_path / "out")
    settings = PreprocessSettings(videos="v.mp4", output=output, hand_workers=1)
    totals = preprocess.run(clips, [], settings, "detector")
    assert tries(tmp_path)[KILLER] == 2
    assert read_ledger(output).count() == {"clips": 0, "filtered": 3, "errors": 1}
    assert totals.clips == len(IDS)
    (row,) = read_columns(join(output, "errors"), ["clip_id", "error_type", "message"]).to_pylist()
    assert (row["clip_id"], row["error_type"]) == (KILLER, "WorkerDied")
    assert "died each of 2 times (Actor" in row["message"]


@pytest.mark.slow
def test_a_clip_that_kills_its_encoder_is_tried_twice_and_named(index, tmp_path, monkeypatch):
    class Encode:
        def __init__(self, open_pipeline):
            pass

        def __call__(self, row):
            if not row["is_text"]:
                with open(tmp_path / "begun", "a") as begun:
                    begun.write(f"{row['clip_id']} ")
                if row["clip_id"] == KILLER:
                    os.kill(os.getpid(), signal.SIGKILL)
            named = {name: row[name] for name in ("is_text", "clip_id", "narration")}
            nothing = {"video_latent": b"", "mask_latent": b"", "embedding": b"", "shape": [0]}
            return {**named, **nothing, "content_sha256": row["clip_id"], "problem": ""}

    monkeypatch.setattr(encode, "Encoder", Encode)
    index = ClipIndex(**{**vars(index), "data": str(tmp_path)})
    wanted = encode.to_encode(index, "0")
    (problem,) = encode.encode(index, wanted, lambda: None, "0", workers=1)
    assert problem.startswith(f"'{KILLER}': the process that worked on this clip died each of 2")
    assert tries(tmp_path)[KILLER] == 2
    assert encode.to_encode(index, "0").clips == [IDS.index(KILLER)]


@pytest.fixture
def evaluated(index) -> tuple[EvaluationSet, EvaluateSettings]:
    settings = EvaluateSettings(data="data", output="out", workers=1)
    return EvaluationSet(index, ["folder"] * len(IDS), [0.0] * len(IDS), "test"), settings


@pytest.mark.slow
def test_a_clip_that_kills_its_generator_costs_the_others_nothing(evaluated, tmp_path, monkeypatch):
    class Generate:
        def __init__(self, planned, settings, fps):
            pass

        def __call__(self, row):
            with open(tmp_path / "begun", "a") as begun:
                begun.write(f"{row['clip_id']} ")
            if row["clip_id"] == KILLER:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"clip_id": row["clip_id"], "problem": "", "refused": ""}

    monkeypatch.setattr(generate, "Generator", Generate)
    planned = Planned(MethodSettings(name="still", kind="still"), "still", "", {})
    clips, settings = evaluated
    lines = evaluation.make(clips, [0, 1, 2, 3], planned, settings, tqdm(disable=True))
    assert len(lines) == 1 and lines[0].startswith(f"{KILLER}: the process")
    assert tries(tmp_path)[KILLER] == 2 and tries(tmp_path).keys() == {*IDS}


@pytest.mark.slow
def test_a_clip_that_kills_its_scorer_costs_the_others_nothing(evaluated, tmp_path, monkeypatch):
    class Score:
        def __init__(self, settings, origins, num_frames, fit):
            pass

        def __call__(self, row):
            with open(tmp_path / "begun", "a") as begun:
                begun.write(f"{row['clip_id']} ")
            if row["clip_id"] == KILLER:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"clip": row["clip"], "scores": 1, "problems": [], "refused": ""}

    class AllMissing:
        def to_score(self, clips, scores):
            return {clip: ToScore("still", "still", "out", "") for clip in range(len(IDS))}

    monkeypatch.setattr(score, "Scorer", Score)
    clips, settings = evaluated
    lines = evaluation.score_all(clips, [AllMissing()], "out", settings, Origins({}, {}, "0"))
    assert len(lines) == 1 and lines[0].startswith(f"{KILLER}: the process")
    assert tries(tmp_path)[KILLER] == 2


def slow_rows(count: int, pause_s: float) -> ray.data.Dataset:
    def pause(row):
        time.sleep(pause_s)
        return row

    rows = [{"id": number} for number in range(count)]
    return ray.data.from_items(rows, override_num_blocks=count).map(pause, num_cpus=0.1)


def test_rows_are_written_by_the_clock_before_their_shard_is_full():
    shards = Shards(lambda rows: rows["id"].to_pylist(), rows=64, every_s=0.5)
    events = [(rows, shard) for rows, shard in stream(slow_rows(6, 0.5), shards) if rows or shard]
    assert sum(rows for rows, _ in events) == 6
    assert sorted(n for _, written in events for shard in written for n in shard) == [*range(6)]
    written_before_the_end = [shard for _, written in events[:-1] for shard in written]
    assert written_before_the_end, "the first rows waited for the last ones"


def test_a_storage_that_refuses_a_shard_ends_the_stream():
    def refuse(rows: pa.Table) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WriteError, match="No space left") as error:
        list(stream(slow_rows(3, 0.0), Shards(refuse, rows=1)))
    assert isinstance(error.value.cause, OSError) and error.value.cause.errno == errno.ENOSPC


def test_what_has_come_is_written_when_the_stream_is_broken_off(tmp_path):
    def write(rows: pa.Table) -> None:
        (tmp_path / "written").write_text(" ".join(map(str, rows["id"].to_pylist())))

    came = 0
    with closing(stream(slow_rows(6, 0.5), Shards(write, rows=64))) as events:
        for rows, _ in events:
            came += rows
            if came >= 2:
                break
    assert len((tmp_path / "written").read_text().split()) == came


def test_why_rows_were_lost_is_known_and_tracebacks_stay_off_the_console(capfd):
    def fail(row):
        if row["id"] == 1:
            raise ZeroDivisionError("no frame rate")
        return row

    tolerate_losses(DataContext.get_current())
    with LostRows() as lost:
        rows = ray.data.from_items([{"id": n} for n in range(3)], override_num_blocks=3).map(fail)
        assert sorted(row["id"] for row in rows.iter_rows()) == [0, 2]
    assert "ZeroDivisionError: no frame rate" in lost.commonest()
    assert "Traceback" not in capfd.readouterr().err
