"""The search for loss weights, with trainings that are only played."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image

from jobs import tune
from jobs.cli import load
from jobs.training.settings import TrainSettings
from jobs.tune import TuneSettings, best_config
from jobs.tuning import telling
from jobs.tuning.standing import Plan, Trial
from jobs.tuning.trials import trial_of
from pipelines.running.job_error import JobError

EPOCHS = 4


class Run:
    """Stands for `Experiment`: what a run in MLflow is told."""

    every: list[Run]
    ended_by_force: list[tuple[str, str, str]]
    uri = "sqlite://"

    def __init__(self, name: str, tags: dict[str, str], run_id: str | None) -> None:
        self.name, self.tags, self.run_id, self.status = name, tags, run_id, "RUNNING"
        self.metrics: dict[str, float] = {}
        self.files: dict[str, bytes] = {}
        Run.every.append(self)

    @classmethod
    def start(cls, experiment, name, params, tags, run_id=None, parent_run_id=None):
        return cls(name, {**tags, "parent": parent_run_id}, run_id)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close("FAILED" if error else "FINISHED")

    def wait_for_run(self, timeout_s):
        return "parent"

    def log_metrics(self, step, values):
        self.metrics |= values

    def log_bytes(self, path, data):
        self.files[path] = data

    def close(self, status="FINISHED", timeout_s=60):
        self.status = status


def figures(plan: Plan, epoch: int) -> dict[str, float]:
    """Best at alpha 0.1, which moves the IoU by tenths, and eta 1, which moves joints by hundredths
    of that. Seeds move both a little."""
    shift = 0.01 * math.sin(1 + 7 * plan.seed + 13 * plan.alpha)
    return {
        "validation/mask_iou": 0.7 + 0.05 * epoch - 0.1 * abs(math.log10(plan.alpha / 0.1)) + shift,
        "validation/hand_distance": 0.25 + 0.002 * abs(math.log10(plan.eta)) + shift / 100,
        "validation/hand_recall": 0.5,
    }


@pytest.fixture
def search(monkeypatch, tmp_path):
    """Search with played trainings: gives the console's lines."""
    Run.every = []
    Run.ended_by_force = []
    monkeypatch.setattr(telling, "Experiment", Run)
    monkeypatch.setattr(tune, "picture", lambda *_: b"drawn")
    monkeypatch.setattr(tune, "end_nested_runs", lambda *said: Run.ended_by_force.append(said))

    def run(fails=lambda plan: "", **keys) -> None:
        def run_trials(training, plans, concurrent, scratch, scheduler=None):
            return [played(plan, scheduler) for plan in plans]

        def played(plan, scheduler) -> Trial:
            name, history = f"{plan.alpha}-{plan.eta}-{plan.seed}", {}
            for epoch in range(1, EPOCHS + 1):
                if why := fails(plan):
                    name = "" if why == "died" else name
                    return Trial(plan, name, f"id {name}", history, "failed", why)
                history[epoch] = figures(plan, epoch)
                if scheduler and not scheduler.goes_on(name, epoch, history[epoch]):
                    return Trial(plan, name, f"id {name}", history, "cut off")
            return Trial(plan, name, f"id {name}", history, "finished")

        monkeypatch.setattr(tune, "run_trials", run_trials)
        settings = TuneSettings(data="clips", output=str(tmp_path), epochs=EPOCHS, **keys)
        parent = Run("tune", {}, "parent")
        tune.tune(settings, settings.training(), SimpleNamespace(steps=8), parent)

    return run


def test_the_best_weights_are_near_the_best_of_both_losses(search, tmp_path):
    search(samples=40)
    found = yaml.safe_load((tmp_path / "best.yaml").read_text())["losses"]
    assert 0.03 < found["alpha"] < 0.3 and 0.3 < found["eta"] < 3


def test_every_trial_has_an_end_in_mlflow_with_score_and_outcome(search):
    search(samples=8)
    parent, *nested = Run.every
    assert parent.status == "FINISHED"
    assert len(nested) == 8 + 2 * 3
    assert {run.status for run in nested} == {"FINISHED"}
    assert all(math.isfinite(run.metrics["score"]) for run in nested)
    assert all(run.tags["parent"] == "parent" and run.run_id for run in nested)
    cut_off = [run for run in nested if run.tags["handi.outcome"] == "cut off"]
    ended = [run for run in nested if run not in cut_off]
    assert cut_off and len(ended) > 6
    assert {run.tags["handi.cut_off"] for run in cut_off} == {"after 2 of 4 epochs"}
    for run in ended:
        assert run.tags["handi.model"].endswith(f"/trials/{run.run_id.removeprefix('id ')}/model")


def test_the_best_pairs_are_repeated_and_their_spread_is_told(search, tmp_path, capsys):
    search(samples=6, seed=5, seeds=4, finalists=2)
    said = capsys.readouterr().out.splitlines()
    assert "8 trainings of the best weights under further seeds" in said
    assert sum("(4 seeds)" in line and "±" in line for line in said) == 2
    assert said[-2].startswith("the best score is ") and "chance" in said[-2]
    found = json.loads((tmp_path / "trials.json").read_text())
    assert len(found["trials"]) == 6 and len(found["repeated"]) == 2
    best = found["repeated"][0]
    assert set(best["scores"]) == {"6", "7", "8", "9"}, "not the seed that chose them"
    assert best["figures"]["validation/hand_distance"]["deviation"] > 0
    assert found["difference"]["seeds"] == 4
    parent = Run.every[0]
    assert parent.metrics["best/score"] == best["score"]["mean"]
    assert parent.metrics["best/validation/mask_iou/deviation"] > 0
    assert parent.metrics["alpha"] == best["alpha"]
    assert parent.files["trials.png"] == (tmp_path / "trials.png").read_bytes() == b"drawn"


def test_the_picture_shows_the_trials_by_their_weights():
    outcomes = {"finished": -1.0, "cut off": 1.0, "failed": math.nan}
    trials = [
        (Trial(Plan(0.1, 1.0, 0), "", None, {}, outcome), score)
        for outcome, score in outcomes.items()
    ]
    with Image.open(io.BytesIO(telling.picture(trials, []))) as drawn:
        assert drawn.format == "PNG" and len(drawn.getcolors(1 << 20)) > 50
    assert telling.picture(trials[2:], [])


def test_the_same_command_tries_the_same_weights_and_another_seed_others():
    keys = {"data": "clips", "output": "out"}
    one, same, other = (TuneSettings(**keys, seed=seed).plans() for seed in (1, 1, 2))
    assert one == same != other
    assert all(0.01 <= plan.alpha <= 1 and 0.1 <= plan.eta <= 10 for plan in one)


def test_without_further_seeds_the_best_training_of_the_search_is_taken(search, tmp_path):
    search(samples=3, seeds=0)
    found = json.loads((tmp_path / "trials.json").read_text())
    best = yaml.safe_load((tmp_path / "best.yaml").read_text())["losses"]
    assert found["repeated"] == [] and found["difference"] is None
    assert best["alpha"] == found["trials"][0]["plan"]["alpha"]


def test_a_training_that_fails_costs_only_itself_and_says_why(search, capsys):
    search(samples=6, fails=lambda plan: "the disk is full" if plan.alpha < 0.1 else "")
    assert "failed: the disk is full" in capsys.readouterr().out
    failed = [run for run in Run.every if run.tags.get("handi.outcome") == "failed"]
    assert failed and {run.status for run in failed} == {"FAILED"}
    assert {run.tags["handi.failure"] for run in failed} == {"the disk is full"}


def test_a_trial_that_died_before_it_told_of_its_run_leaves_none_that_seems_to_go_on(search):
    search(samples=4, fails=lambda plan: "died" if plan.alpha < 0.1 else "")
    assert all(run.name for run in Run.every)
    assert Run.ended_by_force == [("sqlite://", "parent", "FAILED")] * 2


def test_a_search_of_which_every_training_fails_is_one_line(search, tmp_path):
    with pytest.raises(JobError) as caught:
        search(samples=3, fails=lambda _: "data: clips cannot be read")
    assert str(caught.value) == "no training came to its end: data: clips cannot be read"
    assert Run.every[0].status == "FAILED"
    assert not list(Path(tmp_path).iterdir())


def test_a_trial_is_what_ray_tune_says_of_it():
    plan = {"alpha": 0.1, "eta": 1.0, "seed": 3}
    told = {"name": "a", "run_id": "r", "history": {"2": {"validation/mask_iou": 0.5}}}

    def of(metrics, error=None):
        return trial_of(SimpleNamespace(metrics=metrics, error=error, config={"plan": plan}))

    assert of({**told, "ended": True, "stopped": None}).outcome == "finished"
    assert of(told) == Trial(
        Plan(**plan), "a", "r", {2: {"validation/mask_iou": 0.5}}, "cut off", ""
    )
    stopped = of({**told, "ended": True, "stopped": "no gradient"})
    assert (stopped.outcome, stopped.why) == ("failed", "no gradient")
    died = of(None, RuntimeError("The worker died.\nmore"))
    assert (died.outcome, died.why, died.history) == ("failed", "The worker died.", {})


def test_the_best_weights_stand_in_a_file_that_training_takes(tmp_path):
    settings = TuneSettings(
        data="clips", output="tuned", epochs=4, losses={"decoded_frames": 2}, samples=3
    )
    path = tmp_path / "best.yaml"
    path.write_bytes(best_config(settings, alpha=0.25, eta=2.0))
    again = load(TrainSettings, "train", ["--config", str(path), "--output", "run"])
    assert (again.losses.alpha, again.losses.eta, again.losses.decoded_frames) == (0.25, 2.0, 2)
    assert again.epochs == 4
    assert again.data.endswith("/clips") and again.output.endswith("/run")
    assert "output" not in yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--alpha", "[1, 0.1]"], "alpha: needs a lowest and a highest weight"),
        (["--validation.held-out", "0"], "validation.held_out: 0 leaves nothing"),
        (["--grace-epochs", "1"], "grace_epochs: ends before the first validation"),
        (["--objective", '{"validation/fid": 1}'], "objective: validation has no 'validation/fid'"),
        (["--objective", '{"validation/psnr": 0}'], "objective: no figure has a weight"),
        (["--seeds", "1"], "seeds: one shows no spread"),
    ],
)
def test_a_search_that_cannot_work_is_refused_in_one_line(arguments, line, capsys):
    with pytest.raises(SystemExit):
        load(TuneSettings, "tune", ["--data", "d", "--output", "o", *arguments])
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
