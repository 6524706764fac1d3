import json
import math
import sys

import numpy as np
import pytest
import torch

from handi_model.config import STAGES
from jobs import benchmark
from jobs.benchmarks import train_step
from jobs.benchmarks.train_bench import Measured, Settings, rendered_clips
from jobs.benchmarks.train_step import ECONOMICAL, measure

SMALL = {
    "device": "cpu",
    "resolution": 32,
    "num_frames": 2,
    "clips_per_pass": 1,
    "decoded_frames": 1,
    "window_margin": 0,
    "mask_steps": 1,
    "repeats": 1,
    "threads": 1,
}


@pytest.fixture(scope="module")
def found():
    threads = torch.get_num_threads()
    yield measure(Settings(**SMALL, workers=[2]))
    torch.set_num_threads(threads)


def test_each_stage_is_measured_with_each_economy_and_without(found):
    for stage in STAGES:
        rows = [row for row in found["rows"] if row["stage"] == stage]
        assert [row["what"] for row in rows][:5] == [
            ECONOMICAL,
            "cached latents, full decode",
            "encoded in the step, economical decode",
            "encoded in the step, full decode",
            f"cached latents, no {'L_mIoU' if stage == 'mask' else 'L_HR'}",
        ]
        assert rows[0]["times_economical"] == 1
        generated = any("generated masks" in row["what"] for row in rows)
        assert generated == (stage == "video"), "stage 1 sees no motion area of its own"


def test_every_figure_is_a_positive_number(found):
    for row in found["rows"]:
        assert "failed" not in row, row
        for name in ("clips_a_second", "seconds_a_step", "cpu_s_a_step", "peak_memory_gb"):
            assert math.isfinite(row[name]) and row[name] > 0, row
        assert row["clips_a_second"] == pytest.approx(row["workers"] / row["seconds_a_step"], 1e-2)
    json.dumps(found, allow_nan=False)


def test_two_processes_share_a_step(found):
    rows = [row for row in found["rows"] if "scaling" in row["what"]]
    assert [(row["stage"], row["workers"]) for row in rows] == [(stage, 2) for stage in STAGES]


def test_more_workers_are_compared_with_one(monkeypatch):
    seconds = {1: 4.0, 2: 5.0}

    def on_workers(settings, device, workers):
        step = seconds[workers]
        return {"mask": Measured(None, [step], [step], 1.0)}

    monkeypatch.setattr(train_step, "on_workers", on_workers)
    settings = Settings(**{**SMALL, "clips_per_pass": 3}, workers=[1, 2])
    one, two = train_step.scaling_rows(settings, torch.device("cpu"))
    assert (one["clips_a_second"], two["clips_a_second"]) == (0.75, 1.2)
    assert (one["times_one_worker"], two["times_one_worker"]) == (1, 1.6)


def test_without_enough_gpus_a_row_says_so_and_nothing_is_started(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(train_step, "spawn", lambda *_, **__: pytest.fail("a worker was started"))
    found = train_step.on_workers(Settings(**SMALL), "cuda", 2)
    assert set(found) == set(STAGES)
    for one in found.values():
        assert "2 workers" in one.failed and "1" in one.failed and not one.seconds


def test_a_worker_that_fails_is_a_row_that_says_why(monkeypatch):
    def ends(*_, **__):
        raise train_step.ProcessException(
            "\n\n-- Process 1 terminated\nRuntimeError: no room", 1, 1
        )

    monkeypatch.setattr(train_step, "spawn", ends)
    monkeypatch.setattr(train_step, "reset_peak_memory", lambda device: None)
    rows = train_step.scaling_rows(Settings(**SMALL, workers=[2]), torch.device("cpu"))
    assert [(row["stage"], row["failed"]) for row in rows] == [
        (stage, "RuntimeError: no room") for stage in STAGES
    ]


def bench_that(step) -> train_step.Bench:
    """A bench whose steps are taken by `step`, without a model."""
    bench = object.__new__(train_step.Bench)
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)

    class Holder:
        device = torch.device("cpu")
        adamw = torch.optim.AdamW([weight])

    Holder.optimiser = Holder
    object.__setattr__(bench, "pipe", Holder)
    object.__setattr__(bench, "trainer", Holder)
    object.__setattr__(bench, "step", step)
    return bench


def test_a_step_that_does_not_fit_into_memory_leaves_no_gradient_to_the_next_row():
    def step(variant, number):
        raise torch.OutOfMemoryError("too large\nfor this device")

    bench = bench_that(step)
    row = Measured(train_step.variants(Settings(**SMALL), "mask")[0])
    bench.take(row, 0)
    assert row.failed == "too large" and row.median == 0
    assert bench.trainer.adamw.param_groups[0]["params"][0].grad is None


def test_a_step_that_moves_no_weight_is_not_counted():
    row = Measured(train_step.variants(Settings(**SMALL), "mask")[0])
    bench_that(lambda variant, number: True).take(row, 0)
    assert "not finite" in row.failed and row.median == 0


def test_rows_of_a_stage_differ_in_one_thing_each():
    settings = Settings(**SMALL)
    for stage in STAGES:
        first, whole, encoded, _, without, *more = train_step.variants(settings, stage)
        assert (first.losses.decoded_frames, first.losses.window_margin) == (1, 0)
        assert (whole.losses.decoded_frames, whole.losses.window_margin) == (None, None)
        assert first.cached and not encoded.cached and encoded.losses == first.losses
        assert (without.losses.alpha if stage == "mask" else without.losses.eta) == 0
        assert all(one.share == 1 and one.losses == first.losses for one in more)


def test_the_clips_show_hands_where_their_masks_are():
    frames, masks, joints, detected, narrations = rendered_clips(9, 0, 4, 64)
    assert frames.shape == (9, 4, 64, 64, 3) and masks.shape == (9, 4, 64, 64)
    assert joints.shape == (9, 4, 42, 2) and np.isfinite(joints).all()
    assert detected.any(2).all(), "every frame has a hand"
    np.testing.assert_array_equal(masks.any((2, 3)), detected.any(2))
    assert narrations[0] == "lift box"
    np.testing.assert_array_equal(frames[8], frames[0])


def refusal(capsys, monkeypatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["jobs/benchmark.py", "train-step", *arguments])
    with pytest.raises(SystemExit) as end:
        benchmark.main()
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--preset", "huge"], "preset"),
        (["--dtype", "float16"], "dtype"),
        (["--resolution", "65"], "resolution"),
        (["--workers", "0"], "workers"),
        (["--clips-per-pass", "0"], "clips_per_pass"),
        (["--hand-timesteps", "2"], "hand_timesteps"),
        (["--hand-model", "no/such.task"], "hand_model"),
        (["--no-such-key", "1"], "--no-such-key"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(capsys, monkeypatch, arguments, named):
    assert named in refusal(capsys, monkeypatch, "--device", "cpu", *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said_at_once(capsys, monkeypatch):
    assert "cuda" in refusal(capsys, monkeypatch, "--device", "cuda")
