import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli import load, recipe
from pipelines.settings import PreprocessSettings

NEEDED = ["--videos", "in", "--output", "out"]


def settings(*arguments: str) -> PreprocessSettings:
    return load(PreprocessSettings, "preprocess", [*NEEDED, *arguments])


def refusal(capsys, *arguments: str) -> str:
    """The line that a wrong command line gets, with exit code 2."""
    with pytest.raises(SystemExit) as end:
        load(PreprocessSettings, "preprocess", list(arguments))
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_the_command_line_wins_over_environment_over_file_over_defaults(tmp_path, monkeypatch):
    file = tmp_path / "keys.yaml"
    file.write_text("resolution: 64\nframes: 8\nfit: pad\n")
    monkeypatch.setenv("HANDI_PREPROCESS_FRAMES", "9")
    monkeypatch.setenv("HANDI_PREPROCESS_FIT", "crop")
    result = settings("--config", str(file), "--fit", "pad")
    assert (result.resolution, result.frames, result.fit) == (64, 9, "pad")
    assert result.jpeg_quality == 95


def test_lists_are_given_by_repeating_or_with_commas():
    assert settings("--verb", "cut,stir").verb == ["cut", "stir"]
    assert settings("--verb", "cut", "--verb", "stir").verb == ["cut", "stir"]


def test_flags_need_no_value():
    assert settings("--stabilize").stabilize
    assert not settings("--no-stabilize").stabilize


def test_null_switches_a_filter_off_wherever_it_is_given(tmp_path, monkeypatch):
    file = tmp_path / "keys.yaml"
    file.write_text("max_cut: null\n")
    monkeypatch.setenv("HANDI_PREPROCESS_MAX_BLANK", "null")
    result = settings("--config", str(file))
    assert result.max_cut is result.max_blank is None
    assert settings("--max-cut", "null").max_cut is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--resolution", "huge"], "resolution"),
        (["--resolution", "1"], "resolution"),
        (["--no-such-key", "1"], "--no-such-key"),
        (["--source", "youtube"], "source"),
        (["--source", "ego4d"], "annotations"),
        (["--min-clip-s", "3", "--max-clip-s", "2"], "max_clip_s"),
        (["--detection-stride", "16"], "detection_stride"),
        (["--config", "no/such/file.yaml"], "no/such/file.yaml"),
    ],
)
def test_a_bad_key_is_one_line_that_names_it(capsys, arguments, named):
    assert named in refusal(capsys, *NEEDED, *arguments)


def test_a_missing_key_is_named(capsys):
    assert "--output" in refusal(capsys, "--videos", "in")


def test_unknown_keys_in_file_and_environment_are_refused(capsys, tmp_path, monkeypatch):
    file = tmp_path / "keys.yaml"
    file.write_text("resolutoin: 64\n")
    assert "resolutoin" in refusal(capsys, *NEEDED, "--config", str(file))
    monkeypatch.setenv("HANDI_PREPROCESS_FRAMS", "9")
    assert "HANDI_PREPROCESS_FRAMS" in refusal(capsys, *NEEDED)


def test_a_file_that_would_run_code_is_refused(capsys, tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text("frames: !!python/object/apply:os.getpid []\n")
    assert str(file) in refusal(capsys, *NEEDED, "--config", str(file))


def test_help_says_what_the_job_does_and_lists_every_key(capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", "Find the hands.\n\njobs/a.py --b C")
    with pytest.raises(SystemExit) as end:
        load(PreprocessSettings, "preprocess", ["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "\nFind the hands.\n\njobs/a.py --b C\n" in shown
    for name, field in PreprocessSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert field.description


@given(st.integers(2, 256), st.integers(32, 2048), st.floats(0, 1))
def test_every_value_within_its_bounds_is_taken_as_given(frames, resolution, rate):
    result = settings(
        "--frames", str(frames), "--resolution", str(resolution), "--min-hand-rate", repr(rate)
    )
    assert (result.frames, result.resolution, result.min_hand_rate) == (frames, resolution, rate)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--config", "jobs/configs/tiny.yaml", "--epochs", "2"], "tiny"),
        (["--epochs", "2", "--config=s3://recipes/ego4d.v2.yaml"], "ego4d.v2"),
        (["--epochs", "2"], None),
    ],
)
def test_the_file_of_keys_names_the_recipe(arguments, name):
    assert recipe(arguments) == name
