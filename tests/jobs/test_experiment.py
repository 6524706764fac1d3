"""What a training tells MLflow, kept in a local store."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from handi_model import HandiPipeline
from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.training import LossSettings
from jobs import experiment as experiment_module
from jobs import tracking
from jobs.dataset_input import dataset_input
from jobs.experiment import Experiment
from jobs.mlflow_run import flat, may_pass
from jobs.tracking import (
    git_commit,
    git_dirty,
    run_name,
    track_run,
    tracking_uri,
    without_password,
)
from jobs.training.checks import Checked
from jobs.training.launch import start_experiment
from jobs.training.resuming import Change, Resumed
from jobs.training.settings import TrainSettings
from jobs.tuning.standing import Plan, Trial
from jobs.tuning.telling import end_run
from pipelines.clip_index import ClipIndex
from pipelines.records import WRITTEN


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The working folder of every training here: the store's tables are made but once."""
    return tmp_path_factory.mktemp("a store, 100%")


@pytest.fixture(autouse=True)
def working_folder(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def client() -> MlflowClient:
    return MlflowClient(tracking_uri=tracking_uri())


def begin(params: dict | None = None, tags: dict | None = None, **more: Any) -> Experiment:
    return Experiment.start("train", "a run", params or {}, tags or {}, **more)


def test_without_a_server_the_store_lies_in_the_working_folder(folder, client):
    run = begin()
    run.log_bytes("samples/epoch-0001/clip.mp4", b"film")
    assert run.close() == 0
    assert (folder / "mlflow.db").exists()
    (film,) = (folder / "mlruns").rglob("clip.mp4")
    assert film.read_bytes() == b"film"
    assert film.parent.name == "epoch-0001"


def test_a_run_has_its_parameters_tags_metrics_and_end(client):
    run = begin({"fit": {"rate": 0.1, "steps": 3}, "model": "tiny"}, {"handi.output": "out"})
    for step in range(3):
        run.log_metrics(step, {"video/loss": 1.0 / (step + 1)})
    assert run.close() == 0
    told = client.get_run(run.run_id)
    assert told.data.params == {"fit.rate": "0.1", "fit.steps": "3", "model": "tiny"}
    assert told.data.tags["handi.output"] == "out"
    assert told.data.tags["mlflow.runName"] == "a run"
    assert told.info.status == "FINISHED"
    history = client.get_metric_history(run.run_id, "video/loss")
    assert [(one.step, one.value) for one in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]


def test_what_was_logged_is_there_once_it_is_flushed_and_the_run_goes_on(client):
    run = begin()
    run.log_metrics(1, {"loss": 0.5})
    assert run.flush(60)
    told = client.get_run(run.run_id)
    assert (told.data.metrics, told.info.status) == ({"loss": 0.5}, "RUNNING")
    assert run.close() == 0


def test_a_search_ends_the_run_of_a_trial_that_was_cut_off(client, tmp_path):
    parent = begin()
    cut_off = begin(parent_run_id=parent.wait_for_run(60))  # and its process is ended
    cut_off.log_metrics(1, {"validation/mask_iou": 0.5})
    assert cut_off.flush(60)
    training = TrainSettings(data="clips", output=str(tmp_path), experiment="train", epochs=4)
    history = {2: {"validation/mask_iou": 0.5}}
    trial = Trial(Plan(0.1, 1.0, 0), "a trial", cut_off.run_id, history, "cut off")
    end_run(training, trial, 0.25, parent.run_id)
    told = client.get_run(cut_off.run_id)
    assert told.info.status == "FINISHED"
    assert told.data.metrics == {"validation/mask_iou": 0.5, "score": 0.25}
    assert told.data.tags["handi.cut_off"] == "after 2 of 4 epochs"
    assert told.data.tags["mlflow.parentRunId"] == parent.run_id
    parent.close()
    cut_off.close()


def test_a_training_that_failed_says_so(client):
    run = begin()
    run.close("FAILED")
    assert client.get_run(run.run_id).info.status == "FAILED"


def test_more_than_mlflow_takes_in_one_call_arrives_all_the_same(client):
    run = begin({f"key{i}": i for i in range(250)} | {"long": "x" * 7000})
    run.log_metrics(0, {f"m{i}": i for i in range(1500)})
    assert run.close() == 0
    told = client.get_run(run.run_id).data
    assert len(told.params) == 251
    assert told.params["long"] == "x" * 6000
    assert len(told.metrics) == 1500


def test_what_is_no_finite_number_is_left_out(client):
    run = begin()
    values = {"good": 1.0, "nan": float("nan"), "inf": float("inf"), "text": "a", "none": None}
    run.log_metrics(1, values)
    assert run.close() == 0
    assert client.get_run(run.run_id).data.metrics == {"good": 1.0}


def test_a_name_that_mlflow_refuses_costs_no_other_metric(client, capsys):
    run = begin()
    for step in range(5):
        run.log_metrics(step, {"loss": step, **({"not?allowed": 1.0} if step == 2 else {})})
    assert run.close() == 1
    assert [one.step for one in client.get_metric_history(run.run_id, "loss")] == [0, 1, 3, 4]
    refused, lost = capsys.readouterr().err.splitlines()
    assert "refuses" in refused and "not?allowed" in refused
    assert lost == f"tracking: {run.uri} lacks 1 of the run's records"


def test_a_resumed_training_goes_on_in_its_run_and_tags_what_changed(client):
    first = begin({"epochs": 2, "rate": 0.1}, {"handi.output": "out"})
    first.log_metrics(1, {"loss": 2.0})
    first.close("FAILED")
    again = begin({"epochs": 4, "rate": 0.1, "new": 1}, {"handi.output": "b"}, run_id=first.run_id)
    assert again.wait_for_run() == first.run_id
    assert client.get_run(first.run_id).info.status == "RUNNING"
    again.log_metrics(2, {"loss": 1.0})
    assert again.close() == 0
    told = client.get_run(first.run_id)
    assert told.data.params == {"epochs": "2", "rate": "0.1", "new": "1"}
    resumed = {k: v for k, v in told.data.tags.items() if k.startswith("resumed.")}
    assert resumed == {"resumed.epochs": "4", "resumed.handi.output": "b"}
    assert told.info.status == "FINISHED"
    assert [one.step for one in client.get_metric_history(first.run_id, "loss")] == [1, 2]

    begin({"epochs": 2}, run_id=first.run_id).close()
    assert client.get_run(first.run_id).data.tags["resumed.epochs"] == "2"


@pytest.mark.parametrize("fate", ["never there", "deleted", "no id"])
def test_a_run_that_the_store_does_not_have_is_begun_anew(client, fate):
    if fate == "deleted":
        gone = begin()
        gone.close()
        client.delete_run(gone.run_id)
        run_id = gone.run_id
    else:
        run_id = "0" * 32 if fate == "never there" else "no/id"
    run = begin(run_id=run_id)
    assert run.close() == 0
    assert run.run_id not in (None, run_id)


def test_a_trial_is_nested_in_its_search(client):
    search = begin()
    trial = begin(parent_run_id=search.wait_for_run())
    trial.close()
    search.close()
    assert client.get_run(trial.run_id).data.tags["mlflow.parentRunId"] == search.run_id


def index_of(data: str, fingerprint: str = "f" * 16) -> ClipIndex:
    splits = ["train", "train", "", "test"]
    return ClipIndex(data, list("abcd"), [""] * 4, splits, [], 64, 64, 16, fingerprint, [""] * 4)


def test_a_data_set_is_an_input_of_its_runs_once_however_often_they_go_on(client, tmp_path):
    data = dataset_input(index_of(str(tmp_path / "demo/data")), "training", trained_on=3)
    first = begin(datasets=[data])
    first.close("KILLED")
    begin(run_id=first.run_id, datasets=[data]).close()
    (told,) = client.get_run(first.run_id).inputs.dataset_inputs
    assert (told.dataset.name, told.dataset.digest) == ("demo/data", "f" * 16)
    assert {tag.key: tag.value for tag in told.tags} == {"mlflow.data.context": "training"}
    assert mlflow.data.get_source(told).uri == str(tmp_path / "demo/data")
    profile = json.loads(told.dataset.profile)
    assert profile["splits"] == {"test": 1, "train": 2, "unnamed": 1}
    assert (profile["clips"], profile["trained_on"], profile["num_frames"]) == (4, 3, 16)
    columns = json.loads(told.dataset.schema)["mlflow_colspec"]
    assert [column["name"] for column in columns] == WRITTEN.names

    # Clips that have changed since are another data set.
    again = dataset_input(index_of(str(tmp_path / "demo/data"), "0" * 16), "training")
    begin(run_id=first.run_id, datasets=[again]).close()
    digests = {one.dataset.digest for one in client.get_run(first.run_id).inputs.dataset_inputs}
    assert digests == {"f" * 16, "0" * 16}


def test_a_data_set_in_an_object_store_keeps_its_url():
    told = dataset_input(index_of("s3://bucket/epic/clips"), "evaluation")
    assert told.dataset.name == "epic/clips"
    assert mlflow.data.get_source(told).uri == "s3://bucket/epic/clips"


@pytest.mark.parametrize(
    ("output", "recipe", "name"),
    [
        ("/home/me/out/demo/run", "tiny", "demo/run (tiny)"),
        ("s3://bucket/run/", "epic_kitchens", "bucket/run (epic_kitchens)"),
        ("run", "s3://models/base/model", "run (model)"),
        ("file:///out/clips", None, "out/clips"),
    ],
)
def test_a_run_is_named_after_its_output_and_its_recipe(output, recipe, name):
    assert run_name(output, recipe) == name


def test_a_training_says_what_it_is_of_and_what_was_changed(client, tmp_path, monkeypatch):
    jobs = Path(tracking.__file__).parent
    command = [str(jobs / "train.py"), "--config", "jobs/configs/tiny.yaml"]
    monkeypatch.setattr("sys.argv", command)
    settings = TrainSettings(data="d", output=str(tmp_path / "demo" / "run"))
    checked = Checked(index_of("file:///clips"), 3, 0, 10)
    first = start_experiment(settings, checked)
    assert first.close() == 0
    told = client.get_run(first.run_id)
    assert told.info.run_name == "demo/run (tiny)"
    assert told.data.tags["mlflow.source.name"] == "jobs/train.py"
    assert told.data.tags["mlflow.source.type"] == "LOCAL"
    assert told.data.tags.get("mlflow.source.git.commit") == git_commit()
    assert [one.dataset.digest for one in told.inputs.dataset_inputs] == ["f" * 16]

    wait_for_file(tmp_path / "demo" / "run" / "mlflow.json")
    resumed = Resumed(4, (Change("mask_steps", 4, 2), Change("losses.alpha", 0.1, 0.2)))
    changes = {"mask_steps": 2, "losses": LossSettings(alpha=0.2)}
    again = start_experiment(settings.model_copy(update=changes), replace(checked, resumed=resumed))
    assert again.close() == 0 and again.run_id == first.run_id
    data = client.get_run(first.run_id).data
    assert data.params["mask_steps"] == "4" and data.tags["resumed.mask_steps"] == "2"
    assert data.tags["handi.changed_at_step_00000004"] == (
        "mask_steps: 4 -> 2; losses.alpha: 0.1 -> 0.2"
    )


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_job_that_has_ended_reports_under_its_outputs_name(client, tmp_path, monkeypatch):
    class Settings(BaseModel):
        steps: int = 3
        fit: dict = {"rate": 0.1}

    (tmp_path / "report.html").write_text("a report")
    monkeypatch.setattr("sys.argv", ["jobs/overfit.py"])
    report = [str(tmp_path / "report.html")]
    track_run("short", Settings(), f"{tmp_path}/out/fit", {"written": 4}, report)
    assert client.get_experiment_by_name("handi-short") is None  # no store is named

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri())
    track_run("short", Settings(), f"{tmp_path}/out/fit", {"written": 4, "by": {"a": 1}}, report)
    experiment = client.get_experiment_by_name("handi-short")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "out/fit"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"steps": "3", "fit.rate": "0.1"}
    assert run.data.metrics == {"written": 4, "by/a": 1}
    assert run.data.tags["mlflow.source.name"] == "jobs/overfit.py"
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["report.html"]


def test_trials_that_begin_together_share_one_experiment(client):
    trials = [Experiment.start("together", f"trial {i}", {}, {}) for i in range(4)]
    assert [trial.close() for trial in trials] == [0] * 4
    (experiment,) = client.search_experiments(filter_string="name = 'together'")
    assert len(client.search_runs([experiment.experiment_id])) == 4


def test_a_store_that_goes_away_as_a_run_begins_gets_no_second_run(client, monkeypatch):
    failures = iter([MlflowException("gone"), MlflowException("still gone")])
    get_run = MlflowClient.get_run

    def away_at_first(self: MlflowClient, run_id: str) -> object:
        for failure in failures:
            raise failure
        return get_run(self, run_id)

    monkeypatch.setattr(MlflowClient, "get_run", away_at_first)
    run = Experiment.start("interrupted", "a run", {"rate": 0.1}, {})
    assert run.close() == 0
    experiment = client.get_experiment_by_name("interrupted")
    (told,) = client.search_runs([experiment.experiment_id])
    assert told.data.params == {"rate": "0.1"}


def test_an_answer_that_was_lost_makes_no_metric_twice(client, monkeypatch):
    failures = iter([MlflowException("gone")])
    log_batch = MlflowClient.log_batch

    def deaf_at_first(self: MlflowClient, run_id: str, **records: list) -> None:
        log_batch(self, run_id, **records)
        if records.get("metrics"):
            for failure in failures:
                raise failure

    monkeypatch.setattr(MlflowClient, "log_batch", deaf_at_first)
    run = begin()
    for step in range(3):
        run.log_metrics(step, {"loss": step})
    assert run.close() == 0
    history = client.get_metric_history(run.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(0, 0), (1, 1), (2, 2)]


def test_an_experiment_that_was_deleted_ends_the_record_and_not_the_training(client, capsys):
    client.delete_experiment(client.create_experiment("gone"))
    run = Experiment.start("gone", "a run", {}, {})
    assert run.wait_for_run() is None
    run.log_metrics(1, {"loss": 1.0})
    assert run.close() == 3  # the run, the metrics, and the end
    refused, _ = capsys.readouterr().err.splitlines()
    assert "refuses" in refused and "active" in refused


def test_a_parameter_that_mlflow_refuses_costs_no_metric(client):
    run = begin({"not?allowed": 1})
    run.log_metrics(1, {"loss": 1.0})
    assert run.close() == 1
    assert client.get_run(run.run_id).data.metrics == {"loss": 1.0}


def test_a_registered_model_opens_as_a_pipeline(tmp_path):
    pipe = new_pipeline(ModelConfig.of("tiny"))
    pipe.save_pretrained(tmp_path / "model")
    run = begin()
    run.register_model(tmp_path / "model", "handi")
    assert run.close() == 0
    folder = mlflow.artifacts.download_artifacts("models:/handi/1", tracking_uri=run.uri)
    again = HandiPipeline.from_pretrained(folder).unet.state_dict()
    assert all(torch.equal(again[key], value) for key, value in pipe.unet.state_dict().items())


def test_a_model_trained_further_does_not_replace_the_registered_one(client, tmp_path):
    def register(content: str, run_id: str | None = None) -> Experiment:
        (tmp_path / "unet").mkdir(exist_ok=True)
        (tmp_path / "unet" / "config.json").write_text(content)
        run = begin(run_id=run_id)
        run.register_model(tmp_path, "a-model")
        assert run.close() == 0
        return run

    register("second", register("first").run_id)
    folders = [client.get_model_version("a-model", str(n)).source for n in (1, 2)]
    assert [Path(one, "unet/config.json").read_text() for one in folders] == ["first", "second"]


def test_a_model_that_is_gone_is_lost_and_nothing_else(client, tmp_path, capsys):
    run = begin()
    run.register_model(tmp_path / "nowhere", "gone")
    run.log_metrics(1, {"loss": 1.0})
    assert run.close() == 1
    assert client.get_run(run.run_id).data.metrics == {"loss": 1.0}
    assert client.search_registered_models("name = 'gone'") == []
    assert "nowhere: no files to register" in capsys.readouterr().err


def test_metrics_and_the_end_do_not_wait_for_a_store_of_files_that_is_down(client, monkeypatch):
    def down(*_: object) -> None:
        raise MlflowException("no storage")

    monkeypatch.setattr(MlflowClient, "log_artifact", down)
    run = begin()
    assert run.wait_for_run()
    run.log_bytes("a.txt", b"a")
    run.log_metrics(1, {"loss": 1.0})
    assert run.close(timeout_s=2) == 1
    told = client.get_run(run.run_id)
    assert told.data.metrics == {"loss": 1.0}
    assert told.info.status == "FINISHED"


def test_a_big_file_on_its_way_is_waited_for_at_the_end(client, monkeypatch):
    on_its_way = threading.Event()
    log_artifact = MlflowClient.log_artifact

    def slow(*arguments: object) -> None:
        on_its_way.set()
        time.sleep(2.5)
        log_artifact(*arguments)

    monkeypatch.setattr(MlflowClient, "log_artifact", slow)
    monkeypatch.setattr(experiment_module, "SLOWEST_UPLOAD", 0.1)
    run = begin()
    run.log_bytes("model.safetensors", b"a")
    assert on_its_way.wait(60)
    assert run.close(timeout_s=2) == 0
    assert [one.path for one in client.list_artifacts(run.run_id)] == ["model.safetensors"]


def test_files_that_wait_take_no_more_memory_than_set(client, monkeypatch):
    monkeypatch.setattr(experiment_module, "MAX_WAITING_BYTES", 10)
    run = Experiment(tracking_uri(), None)  # type: ignore[arg-type] # never started
    for name in "abcde":
        run.log_bytes(name, b"1234")
    assert [path for path, _ in run._files] == ["a", "e"]
    assert run._lost == 3


@pytest.mark.parametrize(
    "uri",
    [
        "nonsense://x",
        "http:/localhost:5000",
        "postgresql+nothing://me:secret@host/base",
        "sqlite://host/file",
        "sqlite:////dev/null/mlflow.db",
        "sqlite:///{not_a_database}",
    ],
)
def test_a_store_that_cannot_be_is_named_in_one_line(uri, tmp_path, monkeypatch):
    (tmp_path / "text").write_text("no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(not_a_database=tmp_path / "text"))
    with pytest.raises(ValueError, match=r"^MLFLOW_TRACKING_URI: ") as raised:
        begin()
    assert len(str(raised.value).splitlines()) == 1
    assert "secret" not in str(raised.value)


def test_passwords_are_not_shown():
    assert without_password("https://me:pa@host:1/x?a=b") == "https://***@host:1/x?a=b"
    assert without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def test_the_commit_is_that_of_the_code_and_nothing_where_there_is_no_git(tmp_path, monkeypatch):
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert git_commit() == (head.stdout.strip() or None)
    monkeypatch.setattr(tracking, "__file__", str(tmp_path / "tracking.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    assert not git_dirty()


def test_code_installed_inside_of_another_repository_has_no_commit(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "tracking.py").write_text("")
    monkeypatch.setattr(tracking, "__file__", str(tmp_path / "tracking.py"))
    someone = ["-c", "user.name=a", "-c", "user.email=a@b"]
    git(*someone, "commit", "--allow-empty", "-m", "theirs")
    assert git_commit() is None
    git("add", "tracking.py")
    git(*someone, "commit", "-m", "ours")
    assert len(git_commit() or "") == 40
    assert not git_dirty()
    (tmp_path / "tracking.py").write_text("changed")
    assert git_dirty()


VALUES = st.integers() | st.text(max_size=5) | st.none() | st.lists(st.integers(), max_size=2)
NAMES = st.text("abc", min_size=1, max_size=3)


@given(st.recursive(VALUES, lambda inner: st.dictionaries(NAMES, inner, max_size=3)))
def test_every_parameter_is_there_once_nested_or_not(values):
    def leaves(value: object) -> int:
        return sum(map(leaves, value.values())) if isinstance(value, dict) and value else 1

    assert len(flat({"a": values})) == leaves(values)


def test_what_a_server_refuses_is_told_from_what_it_cannot_take_now():
    assert may_pass(MlflowException("no route to host"))
    assert may_pass(TimeoutError())
    assert not may_pass(FileNotFoundError())
    assert not may_pass(MlflowException.invalid_parameter_value("a name"))
