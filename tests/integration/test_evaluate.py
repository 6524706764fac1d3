"""The evaluation as a process: tables, page and record of a run, and what an interruption costs."""

from __future__ import annotations

import csv
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from jobs.evaluation.export import export
from pipelines.clip_files import encode_mp4
from pipelines.training_clips import read_training_clips
from tests.datasets import rendered_dataset
from tests.integration.cluster import two_nodes
from tests.integration.evaluations import (
    command,
    environment,
    finish,
    metrics,
    stand_ins,
    start,
)
from tests.integration.serve.clients import assert_same

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CLIPS = ["lift_box_1", "open_lid_2", "slide_cup_1"]
LENGTH, SIDE = 10, 64
STEPS = {"num_inference_steps": 2, "mask_steps": 1, "guidance_scale": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return rendered_dataset(tmp_path_factory.mktemp("data"), CLIPS, LENGTH, SIDE)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    new_pipeline(ModelConfig.of("tiny", resolution=SIDE)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory, data, hand_model) -> dict[str, object]:
    """Of every evaluation here, but for its output."""
    networks = stand_ins(tmp_path_factory.mktemp("networks"))
    common = {"data": data, "hand_model": hand_model, "bootstrap": 20, "frechet_bootstrap": 3}
    return {**common, **networks}


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation, and what stood on its console."""

    keys: dict[str, object]
    store: str
    output: Path
    console: str


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, data, model, keys) -> Evaluated:
    """By two workers: two methods of a file, and a folder with two of the three clips."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "clips").mkdir()
    clips = read_training_clips(data, CLIPS[:2], SIDE)
    for clip_id, frames in zip(clips.clip_ids, clips.frames, strict=True):
        (folder / "clips" / f"{clip_id}.mp4").write_bytes(encode_mp4(frames, 8))
    ours = {"kind": "handi", "model": str(model), **STEPS}
    named = [{"name": "ours", **ours}, {"name": "true masks", **ours, "area": "true"}]
    (folder / "rows.yaml").write_text(yaml.safe_dump({"methods": named}))
    given = {**keys, "config": folder / "rows.yaml", "clips": folder / "clips"}
    store, output = f"sqlite:///{folder}/mlflow.db", folder / "eval"
    console = finish(start(store, **given, output=output, workers=2))
    return Evaluated(given, store, output, console)


def test_one_command_leaves_tables_a_page_and_a_run(evaluated):
    output = evaluated.output
    found = metrics(output)
    assert set(found["estimates"]) == {"folder", "motion-intensive"}
    methods = found["estimates"]["folder"]
    floors = ["real clip", "still frame", "frames shuffled", "another clip"]
    assert list(methods) == ["clips", "ours", "true masks", *floors]
    real, still, mixed, other = (methods[name] for name in floors)
    assert real["hs_err"]["value"] == 0 and real["clip_gt"]["value"] == pytest.approx(1)
    assert real["fid"]["value"] == pytest.approx(0, abs=1e-6)
    assert mixed["fid"]["value"] == pytest.approx(0, abs=1e-6)
    assert mixed["fvd"]["value"] > 1e-3 > real["fvd"]["value"]
    assert still["clip_cs"]["value"] == pytest.approx(1) and still["flow_inside"]["value"] is None
    assert other["joint_error"]["value"] > 0.02 > real["joint_error"]["value"] == 0
    assert other["clip_gt"]["value"] < real["clip_gt"]["value"] and "fid" not in other
    # An MP4 of the real clips is all but the real clips; two of the three are there.
    assert methods["clips"]["clip_gt"]["value"] > 0.95
    assert methods["clips"]["change_outside"]["clips"] == 2
    # Given the true mask, nothing changes outside of it, though it would have.
    given = methods["true masks"]
    assert given["mask_iou"]["value"] == 1 > methods["ours"]["mask_iou"]["value"]
    assert given["change_outside"]["value"] < 0.01 < given["change_before"]["value"]
    # A network that was not to be had costs its columns, and says so.
    assert "egovlp" not in real and "blip" not in real
    table = (output / "table.md").read_text()
    assert table in evaluated.console
    assert "not measured: EgoVLP, BLIP" in table and "--egovlp" in table
    assert "| ours |" in table and "Efficiency" in table
    assert found["efficiency"]["ours"]["parameters"] > 6e6
    with (output / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    paper = {row["subset"] for row in rows if row["source"] == "paper"}
    assert paper == {"efficiency"}, "the paper's tables are of other clips"
    assert (output / "report.html").stat().st_size > 10_000

    client = MlflowClient(tracking_uri=evaluated.store)
    (run,) = client.search_runs([client.get_experiment_by_name("handi-evaluation").experiment_id])
    assert run.data.metrics["folder/ours/fid"] == methods["ours"]["fid"]["value"]
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert kept == {"table.md", "table.csv", "metrics.json", "report.html"}


def test_the_released_joints_are_those_that_all_is_measured_against(
    evaluated, data, hand_model, tmp_path
):
    export(["--data", data, "--output", str(tmp_path), "--hand-model", str(hand_model)])
    (scores,) = evaluated.output.glob("scores/*/real-clip-*")
    for clip_id in CLIPS:
        with (
            np.load(tmp_path / "joints" / f"{clip_id}.npz") as released,
            np.load(scores / f"{clip_id}.npz") as measured,
        ):
            np.testing.assert_allclose(released["joints"], measured["joints"], atol=1e-4)
            np.testing.assert_array_equal(released["detected"], measured["detected"])


def assert_same_figures(one: dict, other: dict) -> None:
    """Of every subset, method and column; what has no figure is None."""
    assert one.keys() == other.keys()
    for key, expected in other.items():
        if isinstance(expected, dict):
            assert_same_figures(one[key], expected)
        elif expected is None:
            assert one[key] is None, key
        else:
            assert one[key] == pytest.approx(expected, rel=1e-2, abs=1e-4), key


def test_a_killed_evaluation_goes_on_and_other_workers_change_nothing(evaluated, tmp_path):
    """Cut short with one worker, submitted again to a cluster of two nodes."""
    store, cut = evaluated.store, tmp_path / "cut"
    killed = start(store, **evaluated.keys, output=cut, workers=1)
    while not (made := list(cut.glob("generated/*/*.npz"))):
        assert killed.poll() is None, killed.communicate()[0][-3000:]
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = {file: file.stat().st_mtime_ns for file in made}

    with two_nodes(environment(store)) as cluster:
        again = command(**evaluated.keys, output=cut)
        finish(cluster.submit(environment(store), "python", *again))

    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert_same_figures(metrics(cut)["estimates"], metrics(evaluated.output)["estimates"])
    files = sorted(cut.glob("generated/*/*.npz"))
    assert len(files) == 2 * len(CLIPS)
    for file in files:
        whole = evaluated.output / file.relative_to(cut)
        with np.load(file) as one, np.load(whole) as other:
            assert_same(one["frames"].astype(int), other["frames"].astype(int))
