"""What preprocessing writes to the console about annotations. No Ray."""

import pytest

from jobs import preprocess
from jobs.preprocess import fill, main, outcome
from pipelines.annotations import Annotations
from pipelines.ledger import Ledger, begin
from pipelines.records import Clip
from pipelines.running.job_error import JobError
from pipelines.settings import PreprocessSettings
from pipelines.storage import join, write_bytes


def test_warnings_about_the_annotations_go_to_stderr_and_malformed_rows_are_shown(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "captions.csv").write_text("video;narration;note;start_s\na.mp4;cut;x;\nb;;;late\n")
    arguments = ["--videos", str(tmp_path), "--output", str(tmp_path / "out"), "--dry-run"]
    monkeypatch.setattr("sys.argv", ["jobs/preprocess.py", *arguments])
    main()
    shown = capsys.readouterr()
    (warning,) = shown.err.splitlines()
    assert warning.startswith("warning: ") and "captions.csv: unknown column note" in warning
    (malformed,) = (line for line in shown.out.splitlines() if "captions.csv:3" in line)
    assert malformed.count("captions.csv:3") == 1 and "start_s is 'late'" in malformed


def test_the_last_line_counts_malformed_rows_apart():
    counts = {"clips_in": 5, "written": 3, "filtered": 1, "failed": 1}
    clips = "5 clips: 3 written, 1 filtered, 1 failed"
    assert outcome({**counts, "malformed_rows": 0}) == clips
    assert outcome({**counts, "malformed_rows": 2}) == f"{clips}; 2 malformed rows"


CLIPS = [Clip(name, "folder", "", "v.mp4", 0.0, 1.0, "") for name in "abcd"]


def summary_of(**counts) -> dict:
    by = {"failed_by": {}, "filtered_by": {}, "failed_for": {}}
    return (
        {"clips_in": 4, "written": 0, "filtered": 0, "failed": 0, "malformed_rows": 0} | by | counts
    )


def test_a_run_that_writes_nothing_ends_with_the_commonest_reason_and_its_count(
    tmp_path, monkeypatch
):
    nothing = summary_of(
        failed=4,
        failed_by={"MissingVideo": 3, "EmptyFile": 1},
        failed_for={"MissingVideo": "v.mp4: no such video"},
    )
    monkeypatch.setattr(preprocess, "process", lambda *_: nothing)
    settings = PreprocessSettings(videos="v", output=str(tmp_path))
    reason = r"failed most often: MissingVideo, 3 of 4 \(v.mp4: no such video\)"
    with pytest.raises(JobError, match=rf"^no clip was written: {reason}$"):
        fill(Annotations(CLIPS, []), settings, "0", Ledger({}))
    filtered = summary_of(filtered=4, filtered_by={"min_hand_rate": 4})
    monkeypatch.setattr(preprocess, "process", lambda *_: filtered)
    with pytest.raises(JobError, match="filtered most often: min_hand_rate, 4 of 4"):
        fill(Annotations(CLIPS, []), settings, "0", Ledger({}))


def test_an_output_is_emptied_only_once_ray_has_started(tmp_path, monkeypatch):
    from pipelines import preprocess as graph

    def no_ray(settings):
        raise JobError("Ray did not start")

    monkeypatch.setattr(graph, "start_ray", no_ray)
    settings = PreprocessSettings(videos="v", output=str(tmp_path), overwrite=True)
    begin(settings.output, settings)
    for name in ("clips/a.parquet", "latents/0/clips/a.parquet", "summary.json"):
        write_bytes(join(settings.output, name), b"of an earlier run")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(JobError, match="Ray did not start"):
        fill(Annotations(CLIPS, []), settings, "0", Ledger({}))
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
