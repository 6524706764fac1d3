"""Trainings on real Ray: what they leave, and that nothing stops them."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path

import mlflow
import psutil
import pytest
import torch
from mlflow import MlflowClient

from handi_model import HandiPipeline, HandiUNet, ModelConfig
from jobs.cli import load
from jobs.training.settings import TrainSettings
from pipelines.checkpoints import checkpoint_steps
from pipelines.storage import exists, find, join
from tests.datasets import rendered_dataset
from tests.integration.cluster import two_nodes
from tests.integration.trainings import (
    CLIPS,
    Training,
    assert_same_losses,
    finish,
    kill_family,
    train_workers,
)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return rendered_dataset(tmp_path_factory.mktemp("data"), CLIPS, frames=4)


@pytest.fixture(scope="module")
def uneventful(data, tmp_path_factory, hand_model) -> tuple[Training, str]:
    """A training that nothing happened to, and its console."""
    folder = tmp_path_factory.mktemp("reference")
    training = Training(folder, data, f"{folder}/run", hand_model)
    return training, training.run()


@pytest.fixture(scope="module")
def reference(uneventful) -> Training:
    return uneventful[0]


@pytest.fixture
def training(data, tmp_path, hand_model) -> Training:
    return Training(tmp_path, data, f"{tmp_path}/run", hand_model)


def test_a_training_leaves_checkpoints_and_a_model_that_opens(uneventful):
    reference, console = uneventful
    assert "5 clips to train, 1 held out; 6 steps, 0 done; 2 workers on cpu" in console
    assert list(checkpoint_steps(join(reference.output, "checkpoints")))[-1] == 6
    names = find(join(reference.output, "checkpoints"), "")
    assert {name.rsplit(".", 1)[-1] for name in names} == {"json", "safetensors"}
    pipe = HandiPipeline.from_pretrained(f"{reference.output}/model")
    assert pipe.unet.prior.max() > 0
    result = reference.result()
    assert pipe.config.fps == result["fps"] == 1.552, "four frames in two seconds"
    assert result["done"] == 6 and result["skipped"] == 0
    assert set(result["losses"]) == {"mask", "video"}


def test_one_mlflow_run_holds_what_a_person_wants_to_see(reference, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", reference.store)
    client = MlflowClient(tracking_uri=reference.store)
    (run,) = client.search_runs([client.get_experiment_by_name("handi-train").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimiser.learning_rate"] == "0.001"
    assert run.data.params["num_workers"] == "2"
    assert run.info.run_name == "/".join(Path(reference.output).parts[-2:]) + " (short)"
    assert len(run.data.params["data_fingerprint"]) == 16
    assert len(run.data.tags["mlflow.source.git.commit"]) == 40
    assert run.data.tags["mlflow.source.name"] == "jobs/train.py"
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.digest == run.data.params["data_fingerprint"]
    assert mlflow.data.get_source(data).uri == run.data.params["data"]
    wanted = {
        *("mask/loss", "mask/noise", "mask/mask_iou"),
        *("video/loss", "video/noise", "video/hand", "video/generated"),
        *("video/timestep_gate", "video/presence_gate"),
        *("learning_rate", "gradient_norm", "generated_share", "skipped_steps"),
        *("clips_per_second", "data_wait_share"),
        *("validation/mask_noise", "validation/video_noise", "validation/mask_iou"),
        "validation/hs_err",
    }
    assert wanted <= set(run.data.metrics)
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "learning_rate")]
    assert steps == [1, 2, 3, 4, 5, 6]
    pictures = {one.path for one in client.list_artifacts(run.info.run_id, "samples/epoch-0002")}
    assert {path.rsplit(".", 1)[-1] for path in pictures} == {"png", "mp4"}
    model = mlflow.artifacts.download_artifacts("models:/handi/1", dst_path=str(tmp_path))
    again = HandiPipeline.from_pretrained(model).unet.state_dict()
    saved = HandiPipeline.from_pretrained(f"{reference.output}/model").unet.state_dict()
    assert all(torch.equal(again[name], saved[name]) for name in saved)


def test_a_finished_training_says_so_and_stops(reference):
    assert reference.run().startswith("nothing to do: 2 epochs are done")


@pytest.mark.slow
def test_an_interrupted_training_saves_its_last_step_and_goes_on_from_it(training):
    alone = ("--num-workers", 1, "--epochs", 1, "--checkpoint-every", 100)
    # Long enough for another job to start meanwhile.
    no_validation = ("--validation.held-out", 0, "--repeats", 30)
    process = training.start(*alone, *no_validation)
    training.wait_for_step(1)
    # The same command once more would share checkpoints and MLflow run.
    second = training.start(*alone, *no_validation)
    refusal, _ = second.communicate(timeout=280)
    assert second.returncode == 2 and "is being written by jobs/train.py" in refusal
    process.send_signal(signal.SIGTERM)
    console, _ = process.communicate(timeout=280)
    assert process.returncode == 143, console[-3000:]
    assert "Traceback" not in console and "***" not in console
    last = console.strip().splitlines()[-1]
    (step,) = checkpoint_steps(join(training.output, "checkpoints"))
    saved = f"step {step} is saved as a checkpoint; the same command goes on from there"
    assert last == f"interrupted by SIGTERM: {saved}"
    client = MlflowClient(tracking_uri=training.store)
    (run,) = client.search_runs([client.get_experiment_by_name("handi-train").experiment_id])
    assert run.info.status == "KILLED"
    refused = training.start(*alone, *no_validation, "--seed", 5)
    line, _ = refused.communicate(timeout=280)
    assert refused.returncode == 2 and line.startswith("error: seed: "), line
    assert line.endswith("with 0 and this run has 5; give --seed 0, or choose another --output\n")
    console = training.run(*alone, *no_validation, "--mask-steps", 2)
    assert f", {step} done; 1 workers" in console
    assert "changed: mask_steps: 1 -> 2\n" in console
    assert "changed: " not in console.replace("changed: mask_steps: 1 -> 2\n", "")


@pytest.mark.slow
def test_an_output_that_refuses_ends_a_training_at_once_with_one_line(training):
    Path(training.output).mkdir(parents=True)
    (Path(training.output) / "samples").write_text("a file where the pictures go")
    process = training.start("--num-workers", 1)
    console, _ = process.communicate(timeout=280)
    assert process.returncode == 1
    (error,) = (line for line in console.splitlines() if line.startswith("error: "))
    assert training.output in error and "cannot be written" in error
    assert "replaced" not in console and "Traceback" not in console


@pytest.mark.slow
def test_an_interrupted_search_leaves_no_run_that_seems_to_go_on(training):
    process = training.start("--samples", 2, "--grace-epochs", 1, job="tune")
    training.wait_for_step(1)
    process.send_signal(signal.SIGINT)
    console, _ = process.communicate(timeout=280)
    assert process.returncode == 130, console[-3000:]
    assert console.strip().splitlines()[-1].startswith("interrupted by Ctrl-C: ")
    assert "Traceback" not in console
    client = MlflowClient(tracking_uri=training.store)
    runs = client.search_runs([client.get_experiment_by_name("handi-train").experiment_id])
    assert len(runs) > 1 and {run.info.status for run in runs} == {"KILLED"}


@pytest.mark.slow
def test_a_worker_killed_in_mid_epoch_costs_no_loss(training, reference):
    process = training.start()
    training.wait_for_checkpoint(4)
    train_workers(psutil.Process(process.pid))[0].kill()
    finish(process)
    assert_same_losses(training, reference)


@pytest.mark.slow
def test_a_job_killed_in_mid_epoch_goes_on_with_another_number_of_workers(training, reference):
    process = training.start()
    training.wait_for_checkpoint(4)
    kill_family(process)
    assert "6 steps, 4 done; 1 workers on cpu" in training.run("--num-workers", 1)
    assert_same_losses(training, reference)


@pytest.fixture
def in_storage(s3, tmp_path, hand_model) -> Training:
    """The same clips and the training's output on an object store."""
    rendered_dataset(s3.folder / "raw" / "data", CLIPS, frames=4)
    return Training(tmp_path / "training", "s3://raw/data", "s3://out/run", hand_model)


@pytest.mark.slow
def test_an_object_store_that_is_away_for_half_a_minute_costs_no_loss(s3, in_storage, reference):
    process = in_storage.start()
    in_storage.wait_for_checkpoint(2)
    s3.stop()
    time.sleep(30)
    assert process.poll() is None
    s3.start()
    finish(process)
    assert_same_losses(in_storage, reference)
    assert list(checkpoint_steps("s3://out/run/checkpoints"))[-1] == 6


@pytest.mark.slow
def test_workers_on_two_nodes_train_and_outlive_one_of_the_nodes(in_storage, reference):
    with two_nodes(in_storage.environment) as cluster:
        command = ["python", "jobs/train.py", *in_storage.arguments]
        spread = ["--placement", "SPREAD", "--cpus-per-worker", 1]
        process = cluster.submit(in_storage.environment, *command, *spread)
        in_storage.wait_for_checkpoint(2)
        assert train_workers(cluster.head) and train_workers(cluster.second)
        cluster.kill_second()
        console = finish(process)
    assert "5 clips to train, 1 held out; 6 steps, 0 done; 2 workers on cpu" in console
    assert_same_losses(in_storage, reference)


@pytest.mark.slow
def test_gradients_that_are_not_finite_end_the_training_with_one_clear_line(training):
    process = training.start("--optimiser.learning-rate", 1e30, "--max-skipped", 2)
    console, _ = process.communicate(timeout=280)
    assert process.returncode == 1
    assert "error: optimiser.learning_rate: 2 steps in a row" in console
    assert "Traceback" not in console


@pytest.mark.slow
def test_adapters_train_for_more_epochs_where_the_last_ones_ended_and_the_model_is_whole(training):
    adapters = ["--trains", "lora", "--lora-rank", 2]
    training.run(*adapters, "--epochs", 1)
    assert "6 steps, 3 done" in training.run(*adapters, "--epochs", 2)
    assert training.result()["epochs"] == 2
    pipe = HandiPipeline.from_pretrained(f"{training.output}/model")
    plain = HandiUNet.of(ModelConfig.of("tiny"))
    assert set(pipe.unet.state_dict()) == set(plain.state_dict())


@pytest.mark.slow
def test_tuning_leaves_a_config_for_training_and_ends_each_nested_run_with_its_score(training):
    few = ("--samples", 2, "--grace-epochs", 1, "--finalists", 1, "--seeds", 2)
    process = training.start(*few, "--num-workers", 1, job="tune")
    console, _ = process.communicate(timeout=580)
    assert process.returncode == 0, console[-3000:]
    assert "2 trainings of up to 6 steps" in console and "(2 seeds)" in console
    config = ["--config", f"{training.output}/best.yaml", "--output", "run"]
    best = load(TrainSettings, "train", config)
    assert 0.01 <= best.losses.alpha <= 1 and 0.1 <= best.losses.eta <= 10
    client = MlflowClient(tracking_uri=training.store)
    runs = client.search_runs([client.get_experiment_by_name("handi-train").experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    nested = [run for run in runs if run is not parent]
    assert [run.data.tags["mlflow.parentRunId"] for run in nested] == [parent.info.run_id] * 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.data.metrics["alpha"] == pytest.approx(best.losses.alpha)
    assert parent.data.metrics["best/validation/mask_iou/deviation"] >= 0
    for run in nested:
        assert math.isfinite(run.data.metrics["score"])
        assert run.data.metrics["validation/hand_recall"] == 1, "under a threshold of 0"
        if run.data.tags["handi.outcome"] == "finished":
            assert exists(join(run.data.tags["handi.model"], "model_index.json"))
        else:
            assert run.data.tags["handi.cut_off"] == "after 1 of 2 epochs"


@pytest.mark.slow
def test_a_search_of_which_every_training_fails_ends_with_one_clear_line(training):
    wild = ("--optimiser.learning-rate", 1e30, "--max-skipped", 2, "--num-workers", 1)
    process = training.start("--samples", 2, "--grace-epochs", 1, *wild, job="tune")
    console, _ = process.communicate(timeout=580)
    assert process.returncode == 1
    error = "error: no training came to its end: optimiser.learning_rate: 2 steps in a row"
    assert console.strip().splitlines()[-1].startswith(error)
    assert "Traceback" not in console
    client = MlflowClient(tracking_uri=training.store)
    runs = client.search_runs([client.get_experiment_by_name("handi-train").experiment_id])
    assert len(runs) == 3 and {run.info.status for run in runs} == {"FAILED"}
