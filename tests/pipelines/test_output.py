"""What an output holds: shards, the ledger, resuming, and clips whose worker died. No Ray."""

import errno
import json
from dataclasses import asdict, replace

import pyarrow as pa
import pytest

from pipelines import preprocess, stages
from pipelines.dataset import read_columns
from pipelines.ledger import (
    OutputError,
    begin,
    check_same_rows,
    forget_failed,
    is_finished,
    read_ledger,
    remove_damaged,
)
from pipelines.records import Clip, Outcome, Problem
from pipelines.report import write_report
from pipelines.running.job_error import JobError
from pipelines.running.shards import WriteError
from pipelines.settings import PreprocessSettings
from pipelines.stages import OUTCOME_COLUMNS, by_video, decode_video, length_filter, write_shard
from pipelines.storage import find, join, read_bytes, write_bytes
from pipelines.summary import summarize, write_summary


def clip(number: int, **changes) -> Clip:
    fields = {"clip_id": f"c{number}", "dataset": "folder", "split": "", "narration": "stir pan"}
    fields |= {"video_uri": f"v{number % 2}.mp4", "start_s": float(number), "stop_s": number + 1.0}
    return Clip(**{**fields, **changes})


def batch(*outcomes: Outcome) -> pa.Table:
    """As the blocks of a shard come to the one who writes it."""
    return pa.table(
        {
            "folder": [outcome.folder for outcome in outcomes],
            "record": [outcome.to_ipc() for outcome in outcomes],
            "seconds": [json.dumps({"decode": 0.5}) for _ in outcomes],
        }
    )


def as_table(rows) -> pa.Table:
    return pa.Table.from_pylist([{name: row[name] for name in OUTCOME_COLUMNS} for row in rows])


def failed(number: int, attempts: int = 1) -> Outcome:
    problem = Problem(f"c{number}", "v.mp4", "decode", "MissingVideo", "no such video", attempts)
    return Outcome.failed(problem)


def filtered(number: int) -> Outcome:
    return Outcome.filtered(clip(number), "min_hand_rate", 0.2)


@pytest.fixture
def output(tmp_path) -> str:
    return str(tmp_path / "out")


def settings(output: str, **changes) -> PreprocessSettings:
    return PreprocessSettings(videos="in", output=output, **changes)


def test_a_shard_goes_to_the_folders_of_its_outcomes_and_is_counted(output):
    counts = write_shard(batch(failed(1), filtered(2), filtered(3)), output, {})
    assert (counts["errors"], counts["filtered"], counts["clips"]) == (1, 2, 0)
    assert counts["decode"] == 1.5
    assert read_ledger(output).folder_of == {"c1": "errors", "c2": "filtered", "c3": "filtered"}


def test_a_shard_that_is_written_twice_is_there_once(output):
    for _ in range(2):
        write_shard(batch(filtered(2), filtered(3)), output, {})
    assert len(find(join(output, "filtered"), ".parquet")) == 1


def test_an_unfinished_file_is_not_taken_for_a_finished_one(output, tmp_path):
    write_shard(batch(filtered(2)), output, {})
    (tmp_path / "out/filtered/.half.parquet.0123").write_bytes(b"PAR1")
    assert read_ledger(output).count() == {"clips": 0, "filtered": 1, "errors": 0}


def test_failed_clips_are_tried_again_and_their_attempts_add_up(output):
    malformed = Problem("captions.csv:3", "", "annotations", "MalformedRow", "start_s: 'one'")
    preprocess.record_problems([malformed], output)
    write_shard(batch(failed(1), filtered(2)), output, {})
    earlier = forget_failed(output)
    assert earlier == {"c1": 1}
    assert "c1" not in read_ledger(output) and "captions.csv:3" in read_ledger(output)
    write_shard(batch(failed(1, attempts=2)), output, earlier)
    rows = read_columns(join(output, "errors"), ["clip_id", "attempts"]).to_pylist()
    assert {"clip_id": "c1", "attempts": 3} in rows


def test_an_output_begun_with_other_settings_is_refused_and_the_key_is_named(output):
    check_same_rows(output, settings(output, resolution=128))
    begin(output, settings(output))
    check_same_rows(output, settings(output, rows_per_file=3, limit=5))
    with pytest.raises(OutputError, match=r"resolution: .* begun with 256 and this run has 128"):
        check_same_rows(output, settings(output, resolution=128))
    begin(output, settings(output, resolution=128, overwrite=True))
    check_same_rows(output, settings(output, resolution=128))


def test_an_output_that_starts_afresh_keeps_nothing_that_was_made_of_its_clips(output, tmp_path):
    begin(output, settings(output))
    write_shard(batch(failed(1), filtered(2)), output, {})
    for name in ("latents/f00/clips/a.parquet", "summary.json", "prior.npy", "report.html"):
        write_bytes(join(output, name), b"old")
    begin(output, settings(output, overwrite=True))
    files = {str(p.relative_to(tmp_path / "out")) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"settings.json"}


def test_an_output_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match="cannot be written") as error:
        begin(str(tmp_path / "file" / "out"), settings("x"))
    assert "\n" not in str(error.value)


def test_an_output_is_finished_when_its_summary_tells_of_all_its_clips(output):
    write_shard(batch(failed(1), filtered(2)), output, {})
    assert not is_finished(output, read_ledger(output))
    write_bytes(join(output, "summary.json"), b'{"clips_in": 2}')
    assert is_finished(output, read_ledger(output))
    write_shard(batch(filtered(3)), output, {})
    assert not is_finished(output, read_ledger(output))


@pytest.mark.parametrize("left", [0, 7, -40])
def test_the_clips_of_a_damaged_file_are_done_again(output, left):
    write_shard(batch(filtered(2), filtered(3)), output, {})
    write_shard(batch(failed(1)), output, {})
    (url,) = find(join(output, "filtered"), ".parquet")
    write_bytes(url, read_bytes(url)[:left])
    ledger = read_ledger(output)
    assert ledger.folder_of == {"c1": "errors"}
    (damaged,) = ledger.damaged
    assert damaged.url == url and url in str(damaged)
    write_summary(output, {"clips_in": 1, "malformed_rows": 0})
    assert not is_finished(output, ledger)
    remove_damaged(ledger)
    assert not read_ledger(output).damaged


def test_rows_that_were_corrected_are_no_longer_malformed(output):
    at = [Problem(f"a.csv:{n}", "", "annotations", "MalformedRow", "start_s") for n in (3, 4)]
    write_shard(batch(failed(1)), output, {})
    preprocess.replace_malformed(at, output)
    preprocess.replace_malformed(at, output)
    assert read_ledger(output).malformed == {"a.csv:3", "a.csv:4"}
    preprocess.replace_malformed(at[1:], output)
    assert read_ledger(output).malformed == {"a.csv:4"}
    assert read_ledger(output).count()["errors"] == 1


def test_what_no_stage_expects_is_the_clips_outcome_with_its_type_and_message(output, monkeypatch):
    def decode_clips(uri, clips, frames, side):
        yield clips[0], Problem("c0", uri, "decode", "MissingVideo", "no such video")
        raise ZeroDivisionError("no frame rate")

    monkeypatch.setattr(stages, "decode_clips", decode_clips)
    (row,) = by_video([clip(n, video_uri="v.mp4") for n in range(3)])
    write_shard(as_table(decode_video(row, settings(output))), output, {})
    columns = ["clip_id", "error_type", "message"]
    assert [
        tuple(r.values()) for r in read_columns(join(output, "errors"), columns).to_pylist()
    ] == [
        ("c0", "MissingVideo", "no such video"),
        ("c1", "ZeroDivisionError", "no frame rate"),
        ("c2", "ZeroDivisionError", "no frame rate"),
    ]


def test_an_output_that_refuses_ends_the_run_and_its_clips_stay_to_do(output, monkeypatch):
    def stream(clips, shards):
        yield 2, []
        raise WriteError(OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(preprocess, "graph", lambda clips, *_: clips)
    monkeypatch.setattr(preprocess, "stream", stream)
    with pytest.raises(JobError, match=r"output: .*/out cannot be written: .*No space left"):
        preprocess.run([clip(1), clip(2)], [], settings(output), "detector")
    assert read_ledger(output).count() == {"clips": 0, "filtered": 0, "errors": 0}


def test_malformed_rows_are_counted_apart_from_the_clips(output):
    rows = [
        Problem(f"captions.csv:{n}", "", "annotations", "MalformedRow", "start_s is 'one'")
        for n in (3, 4)
    ]
    preprocess.record_problems(rows, output)
    write_shard(batch(failed(1), filtered(2)), output, {})
    ledger = read_ledger(output)
    assert ledger.count() == {"clips": 0, "filtered": 1, "errors": 1}
    assert ledger.malformed == {"captions.csv:3", "captions.csv:4"}
    summary = summarize(settings(output), preprocess.RunTotals(), "detector")
    assert [summary[key] for key in ("clips_in", "written", "filtered", "failed")] == [2, 0, 1, 1]
    assert summary["malformed_rows"] == 2
    assert summary["failed_by"] == {"MissingVideo": 1}

    write_report(settings(output), summary, None)
    failures, malformed = (
        read_bytes(join(output, "report.html")).decode().split("<h2>Malformed rows</h2>")
    )
    assert "MissingVideo" in failures and "captions.csv" not in failures
    assert malformed.count("start_s is &#39;one&#39;") == 2

    assert not is_finished(output, ledger)
    write_summary(output, summary)
    assert is_finished(output, ledger)
    preprocess.record_problems([replace(rows[0], clip_id="captions.csv:9")], output)
    assert not is_finished(output, read_ledger(output))


def test_videos_are_opened_once_for_all_their_clips():
    rows = by_video([clip(n) for n in range(5)])
    assert [row["video_uri"] for row in rows] == ["v0.mp4", "v1.mp4"]
    assert [fields["clip_id"] for fields in json.loads(rows[0]["clips"])] == ["c0", "c2", "c4"]
    assert len(by_video([clip(n) for n in range(5)], alone=True)) == 5


def test_clips_out_of_the_length_bounds_are_filtered_without_decoding(output):
    bounded = settings(output, min_clip_s=0.5, max_clip_s=2.0)
    assert length_filter(clip(1), bounded) is None
    assert length_filter(clip(1, stop_s=1.2), bounded).row["reason"] == "min_clip_s"
    assert length_filter(clip(1, stop_s=9.0), bounded).row["reason"] == "max_clip_s"
    # The video does not exist: nobody looked.
    (row,) = decode_video(by_video([clip(1, stop_s=9.0)])[0], bounded)
    assert row["folder"] == "filtered"


def test_a_clip_that_kills_its_worker_is_tried_alone_and_then_recorded(output, monkeypatch):
    runs = []

    def graph(clips, settings, detector_name, alone=False):
        runs.append(([one.clip_id for one in clips], alone))
        return clips

    def stream(clips, shards):
        """Every clip ends up filtered but the one that kills its process."""
        for each in clips:
            if each.clip_id != "c2":
                outcome = Outcome.filtered(each, "min_hand_rate", 0.0)
                yield 1, [shards.write(batch(outcome))]

    monkeypatch.setattr(preprocess, "graph", graph)
    monkeypatch.setattr(preprocess, "stream", stream)
    clips = [clip(n) for n in range(4)]
    totals = preprocess.run(clips, [], settings(output), "detector")
    assert runs == [(["c0", "c1", "c2", "c3"], False), (["c2"], True)]
    assert totals.clips == 4
    assert read_ledger(output).count() == {"clips": 0, "filtered": 3, "errors": 1}
    (row,) = read_columns(join(output, "errors"), ["error_type", "attempts"]).to_pylist()
    assert row == {"error_type": "WorkerDied", "attempts": 2}
    assert totals.outcomes == {"clips": 0, "filtered": 3, "errors": 1}

    again = preprocess.run(clips, [], settings(output), "detector")
    assert again.clips == 0 and len(runs) == 2


def test_clips_survive_the_journey_through_a_row():
    original = clip(3, verb_class=4, participant="P01")
    (row,) = by_video([original])
    assert Clip(**json.loads(row["clips"])[0]) == original
    assert asdict(original).keys() >= {"clip_id", "start_s", "participant"}
