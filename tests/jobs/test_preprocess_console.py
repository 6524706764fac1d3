"""What preprocessing writes to the console about annotations. No Ray."""

from jobs.preprocess import main, outcome


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
