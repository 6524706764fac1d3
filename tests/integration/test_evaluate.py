"""The evaluation as a process: tables, page and record of a run, and what an interruption costs."""

from __future__ import annotations

import csv
import os
import signal
import time
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


def test_one_command_leaves_tables_a_page_and_a_run(data, model, keys, hand_model, tmp_path):
    made_elsewhere = tmp_path / "elsewhere"
    made_elsewhere.mkdir()
    clips = read_training_clips(data, CLIPS[:2], SIDE)
    for clip_id, frames in zip(clips.clip_ids, clips.frames, strict=True):
        (made_elsewhere / f"{clip_id}.mp4").write_bytes(encode_mp4(frames, 8))
    store, output = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "eval"
    rows = tmp_path / "rows.yaml"
    ours = {"kind": "handi", "model": str(model), **STEPS}
    named = [{"name": "ours", **ours}, {"name": "true masks", **ours, "area": "true"}]
    rows.write_text(yaml.safe_dump({"methods": named}))

    console = finish(start(store, config=rows, **keys, output=output, clips=made_elsewhere))

    found = metrics(output)
    assert set(found["estimates"]) == {"folder", "motion-intensive"}
    methods = found["estimates"]["folder"]
    floors = ["real clip", "still frame", "frames shuffled", "another clip"]
    assert list(methods) == ["clips", "ours", "true masks", *floors]
    real, still, mixed, other = (methods[name] for name in floors)
    assert real["hs_err"]["value"] == 0 and real["clip_gt"]["value"] == pytest.approx(100)
    assert real["fid"]["value"] == pytest.approx(0, abs=1e-6)
    assert mixed["fid"]["value"] == pytest.approx(0, abs=1e-6) < mixed["fvd"]["value"]
    assert still["clip_cs"]["value"] == pytest.approx(1) and still["flow_inside"]["value"] is None
    assert other["joint_error"]["value"] > 0.02 > real["joint_error"]["value"] == 0
    assert other["clip_gt"]["value"] < real["clip_gt"]["value"] and "fid" not in other
    # An MP4 of the real clips is all but the real clips; two of the three are there.
    assert methods["clips"]["clip_gt"]["value"] > 95
    assert methods["clips"]["change_outside"]["clips"] == 2
    # Given the true mask, nothing changes outside of it, though it would have.
    given = methods["true masks"]
    assert given["mask_iou"]["value"] == 1 > methods["ours"]["mask_iou"]["value"]
    assert given["change_outside"]["value"] < 0.01 < given["change_before"]["value"]
    # A network that was not to be had costs its columns, and says so.
    assert "egovlp" not in real and "blip" not in real
    table = (output / "table.md").read_text()
    assert table in console
    assert "not measured: EgoVLP, BLIP" in table and "--egovlp" in table
    assert "| ours |" in table and "Efficiency" in table
    assert found["efficiency"]["ours"]["parameters"] > 6e6
    with (output / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["source"] for row in rows} == {"measured", "paper"}
    assert (output / "report.html").stat().st_size > 10_000

    client = MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name("handi-evaluation").experiment_id])
    assert run.data.metrics["folder/ours/fid"] == methods["ours"]["fid"]["value"]
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert kept == {"table.md", "table.csv", "metrics.json", "report.html"}

    # The released joints of the real clips are those that all this was measured against.
    export(["--data", data, "--output", str(tmp_path / "release"), "--hand-model", str(hand_model)])
    (scores,) = output.glob("scores/*/real-clip-*")
    for clip_id in CLIPS:
        with (
            np.load(tmp_path / "release" / "joints" / f"{clip_id}.npz") as released,
            np.load(scores / f"{clip_id}.npz") as measured,
        ):
            np.testing.assert_array_equal(released["joints"], measured["joints"])
            np.testing.assert_array_equal(released["detected"], measured["detected"])


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_more_workers_change_nothing(model, keys, tmp_path):
    keys = {**keys, **STEPS, "model": model}
    store = f"sqlite:///{tmp_path}/mlflow.db"
    finish(start(store, **keys, output=tmp_path / "whole", workers=1))

    cut = tmp_path / "cut"
    killed = start(store, **keys, output=cut, workers=1)
    while not (made := list(cut.glob("generated/*/*.npz"))):
        assert killed.poll() is None, killed.communicate()[0][-3000:]
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = {file: file.stat().st_mtime_ns for file in made}

    with two_nodes(environment(store)) as cluster:
        submitted = cluster.submit(environment(store), "python", *command(**keys, output=cut))
        finish(submitted)

    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert metrics(cut)["estimates"] == metrics(tmp_path / "whole")["estimates"]
    for file in sorted(cut.glob("generated/*/*.npz")):
        whole = tmp_path / "whole" / file.relative_to(cut)
        with np.load(file) as one, np.load(whole) as other:
            assert (one["frames"] == other["frames"]).all()

    # All is there: nothing is generated or measured again.
    again = finish(start(store, **keys, output=cut))
    assert "0 clips to generate" in again and "measure:" not in again
    assert metrics(cut)["estimates"] == metrics(tmp_path / "whole")["estimates"]
