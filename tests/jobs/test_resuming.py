"""Which changed keys a training that goes on accepts, and that it tells them all."""

import json

import pytest

from jobs import train
from jobs.cli import load
from jobs.training.checks import Checked
from jobs.training.resuming import PLAN, Resumed, changed, resume
from jobs.training.settings import TrainSettings
from pipelines.checkpoints import CheckpointWriter
from pipelines.clip_index import ClipIndex
from pipelines.running import output_lease
from pipelines.running.output_lease import held_output

STEPS = 10


@pytest.fixture
def settings(tmp_path) -> TrainSettings:
    return TrainSettings(data="d", output=str(tmp_path / "run"), model="tiny")


@pytest.fixture
def index() -> ClipIndex:
    return ClipIndex("d", ["a"], ["lift box"], [""], [], 64, 64, 4, "f" * 16, ["c"])


def begun(settings, **changes) -> None:
    """Leave a checkpoint as if the training had gone two steps."""
    numbers = {
        "begun_with": settings.begun_with(),
        "data": "f" * 16,
        "course": {"done": 2},
    } | changes
    writer = CheckpointWriter(f"{settings.output}/checkpoints", 1)
    writer.save(2, lambda folder: (folder / "state.json").write_text(json.dumps(numbers)), None)
    writer.wait()


def keys(*arguments: str, output: str) -> TrainSettings:
    """What a command line gives."""
    return load(TrainSettings, "train", ["--data", "d", "--output", output, *arguments])


def test_the_same_keys_go_on_without_a_word(settings, index):
    assert resume(settings, index, STEPS) == Resumed()
    begun(settings)
    assert resume(settings, index, STEPS) == Resumed(2)


@pytest.mark.parametrize(
    ("argument", "value", "line"),
    [
        ("optimiser.learning-rate", "0.01", "optimiser.learning_rate: 5e-05 -> 0.01"),
        ("optimiser.warmup-steps", "1", "optimiser.warmup_steps: 500 -> 1"),
        ("optimiser.ema-decay", "0.5", "optimiser.ema_decay: 0.9999 -> 0.5"),
        ("losses.alpha", "0.2", "losses.alpha: 0.1 -> 0.2"),
        ("losses.decoded-frames", "null", "losses.decoded_frames: 4 -> null"),
        ("dtype", "float32", "dtype: bfloat16 -> float32"),
        ("ramp-start", "0.3", "ramp_start: 0.1 -> 0.3"),
        ("mask-steps", "2", "mask_steps: 4 -> 2"),
        ("epochs", "20", "epochs: 10 -> 20"),
        ("device", "cpu", "device: cuda -> cpu"),
    ],
)
def test_a_key_that_may_change_is_told_with_both_its_values(settings, index, argument, value, line):
    begun(settings.model_copy(update={"device": "cuda"}))
    now = keys(f"--{argument}", value, output=settings.output)
    resumed = resume(now, index, STEPS)
    # A device that is not asked for is chosen later.
    assert [str(change) for change in resumed.changes] == [line]
    assert resumed.done == 2


@pytest.mark.parametrize(
    ("argument", "value", "before"),
    [
        ("seed", "7", "0"),
        ("batch-size", "4", "8"),
        ("clips-per-pass", "2", "4"),
        ("repeats", "3", "1"),
        ("cycle", "video", "mask,video"),
        ("trains", "attention", "all"),
        ("lora-rank", "4", "16"),
        ("checkpoint", "text-to-video", "null"),
        ("validation.held-out", "2", "8"),
    ],
)
def test_a_key_that_breaks_the_plan_is_refused_with_values_and_remedy(
    settings, index, argument, value, before
):
    begun(settings)
    now = keys(f"--{argument}", value, output=settings.output)
    key = argument.replace("-", "_")
    assert key in PLAN
    with pytest.raises(ValueError) as caught:
        resume(now, index, STEPS)
    assert str(caught.value) == (
        f"{key}: {settings.output} was begun with {before} and this run has {value}; "
        f"give --{argument} {before}, or choose another --output"
    )
    # The remedy is one.
    remedied = keys(f"--{argument}", value, f"--{argument}", before, output=settings.output)
    if argument != "cycle":  # a list gathers what is given
        assert resume(remedied, index, STEPS) == Resumed(2)


def test_a_training_with_the_mask_is_not_gone_on_with_without_it(settings, index):
    begun(settings.model_copy(update={"cycle": ["video"]}))
    now = keys("--cycle", "video", "--no-uses-mask", output=settings.output)
    message = "uses_mask: .* was begun with true and this run has false; give --uses-mask, or"
    with pytest.raises(ValueError, match=message):
        resume(now, index, STEPS)


def test_all_keys_that_break_the_plan_stand_in_one_line(settings, index):
    begun(settings)
    now = settings.model_copy(update={"seed": 7, "batch_size": 4, "mask_steps": 1})
    with pytest.raises(ValueError) as caught:
        resume(now, index, STEPS)
    assert str(caught.value) == (
        f"batch_size, seed: {settings.output} was begun with 8, 0 and this run has 4, 7; "
        "give --batch-size 8 --seed 0, or choose another --output"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "another"}, "data: .* another data set .fingerprint another. than .*/d is now"),
        ({"course": {"done": 11}}, "epochs: .* has gone 11 steps already, and 10 epochs are 10"),
    ],
)
def test_another_training_is_not_gone_on_with(settings, index, changes, message):
    begun(settings, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        resume(settings, index, STEPS)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_an_earlier_version_says_less_and_is_gone_on_with(settings, index):
    plan = {key: value for key, value in settings.begun_with().items() if key in PLAN}
    begun(settings, begun_with=plan)
    assert resume(settings.model_copy(update={"mask_steps": 1}), index, STEPS) == Resumed(2)
    with pytest.raises(ValueError, match=r"^seed: "):
        resume(settings.model_copy(update={"seed": 1}), index, STEPS)


def test_every_key_of_the_plan_is_one(settings):
    assert set(PLAN) <= set(settings.begun_with())
    # What is kept is what JSON gives back.
    kept = json.loads(json.dumps(settings.begun_with()))
    assert not changed(kept, settings.begun_with())


def test_an_output_that_another_job_writes_is_refused_before_its_keys_are(
    settings, index, monkeypatch, capsys
):
    begun(settings)
    now = settings.model_copy(update={"seed": 7})
    monkeypatch.setattr(output_lease, "ATTEMPTS", 1)
    monkeypatch.setattr(train, "load", lambda *_: now)
    monkeypatch.setattr(train, "check", lambda _: Checked(index, 1, 0, STEPS))
    with held_output(settings.output, "another job"), pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is being written by another job" in line

    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: seed: ") and line.endswith("or choose another --output")


def test_changes_to_a_finished_training_are_told_to_be_without_effect(
    settings, index, monkeypatch, capsys
):
    begun(settings, course={"done": STEPS})
    monkeypatch.setattr(train, "load", lambda *_: settings.model_copy(update={"mask_steps": 1}))
    monkeypatch.setattr(train, "check", lambda _: Checked(index, 1, 0, STEPS))
    monkeypatch.setattr(train, "finished", lambda _: {"epochs": settings.epochs})
    train.main()
    said, told = capsys.readouterr().out.splitlines()
    assert said.startswith("nothing to do: 10 epochs are done")
    assert told == "changed since, to no effect: mask_steps: 4 -> 1"
