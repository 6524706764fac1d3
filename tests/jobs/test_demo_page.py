import json
import re
import shlex
import time
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric

from jobs import demo, demo_page
from jobs.demo_page import read_histories, smoothed, store_to_open, with_gaps, write_page
from jobs.training.settings import TrainSettings
from jobs.validation import held_out
from pipelines.clip_files import encode_mp4, encode_png
from pipelines.dataset import read_rows
from pipelines.rendered import CLIPS
from tests.datasets import rendered_dataset
from tests.jobs.pages import Page, check_words_and_playing

SCENE, HELD_OUT = "stir_pan_2", "slide_cup_1"
NARRATION = "stir <b>pan</b> & smile"
STEPS = 6
EPOCHS = 2


def track(uri: str) -> str:
    """A run of two epochs whose third step was taken twice, as after a lost worker."""
    client = MlflowClient(tracking_uri=uri)
    run_id = client.create_run(client.create_experiment("train")).info.run_id
    now = int(time.time() * 1000)
    records = [(1, 4.0), (2, 3.0), (3, 9.0), (3, 2.0)]
    log = [Metric("mask/loss", value, now + i, step) for i, (step, value) in enumerate(records)]
    for step in (4, 5, 6):
        log += [Metric(f"video/{name}", 0.1 * step, now, step) for name in ("loss", "hand")]
    for step in range(1, STEPS + 1):
        for name in ("learning_rate", "gradient_norm", "clips_per_second", "generated_share"):
            log.append(Metric(name, 0.1 * step, now, step))
    log += [Metric("validation/gain", gain, now, step) for step, gain in ((3, 0.5), (6, 1.25))]
    client.log_batch(run_id, metrics=log)
    return run_id


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A demo's folder just before its page is drawn."""
    folder = tmp_path_factory.mktemp("demo")
    data = folder / "data"
    data.mkdir()
    rendered_dataset(data, [SCENE, HELD_OUT])
    (row,) = read_rows(str(data), [SCENE])
    (folder / "scene.jpg").write_bytes(row["frames"][0])
    uri = f"sqlite:///{folder}/mlflow.db"
    files = {
        "run/mlflow.json": {"run_id": track(uri), "uri": uri},
        "run/result.json": {
            "epochs": EPOCHS,
            "done": STEPS,
            "clips": 1,
            "held_out": [HELD_OUT],
            "settings": {"resolution": 64},
        },
        f"clips/{SCENE}.json": {"prompt": NARRATION, "seed": 0},
    }
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    area = np.zeros((64, 64), np.uint8)
    area[:32, :32] = 255
    blobs = {
        f"clips/{SCENE}.mp4": encode_mp4(frames, 8),
        f"clips/{SCENE}-mask.png": encode_png(area),
        f"clips/{SCENE}-strip.png": encode_png(frames[0]),
    }
    for epoch in (1, 2):
        stem = f"run/samples/epoch-{epoch:04d}/{HELD_OUT}"
        blobs |= {f"{stem}.png": encode_png(frames[0]), f"{stem}.mp4": encode_mp4(frames, 8)}
    blobs |= {name: json.dumps(value).encode() for name, value in files.items()}
    for name, blob in blobs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(blob)
    return folder


@pytest.fixture(scope="module")
def html(finished) -> str:
    url = write_page(
        str(finished), SCENE, ".venv/bin/python", ["python jobs/train.py --output 'a b'"]
    )
    assert url == f"{finished}/index.html"
    return (finished / "index.html").read_text()


def test_the_page_shows_data_training_validation_and_a_clip_and_says_how_to_go_on(html):
    assert Page(html).headings == [
        "The data",
        "The training",
        "The validation",
        "A generated clip",
        "Where everything lies",
        "From here",
    ]
    for words in (
        "-m mlflow ui --backend-store-uri sqlite:///",
        "jobs/train.py",
        "jobs/generate.py",
    ):
        assert words in html


def test_the_page_is_one_file_that_fetches_nothing(html):
    page = Page(html)
    assert page.fetched and all(url.startswith("data:") for url in page.fetched)
    assert not page.tags & {"script", "link", "iframe"}
    assert not re.search(r"url\(|@import|https?://", html)


def test_pictures_and_videos_have_words_and_videos_play_by_themselves(html):
    page = Page(html)
    check_words_and_playing(page)
    assert len(page.videos) == 3  # two validations and the generated clip


def test_words_of_the_data_are_shown_as_they_are(html):
    assert "stir &lt;b&gt;pan&lt;/b&gt; &amp; smile" in html
    assert "<b>pan</b>" not in html


def test_a_command_to_copy_quotes_what_the_shell_would_take_apart(html):
    assert f"--prompt {shlex.quote(NARRATION)} --output" in unescape(html)


def test_only_metrics_that_were_tracked_are_drawn(html):
    titles = {chart.title for chart in demo_page.CHARTS if f"<b>{chart.title}</b>" in html}
    assert "Stage 1: the motion area" in titles
    assert "Waiting for data" not in titles


def test_validations_stand_by_their_epochs(html):
    (row,) = re.findall(r"<tr><td>gain, dB.*?</tr>", html)
    assert re.findall(r'"number">([^<]*)<', row) == ["+0.50", "+1.25"]
    assert "After epoch 1" in html and "After epoch 2" in html


def test_a_step_taken_again_counts_as_it_went_the_last_time(finished):
    tracked = json.loads((finished / "run/mlflow.json").read_text())
    histories = read_histories(tracked["uri"], tracked["run_id"])
    assert histories["mask/loss"] == {1: 4.0, 2: 3.0, 3: 2.0}


def test_a_line_is_the_mean_of_the_last_records():
    values = np.array([4.0, 2.0, 6.0, 1.0])
    np.testing.assert_allclose(smoothed(values, 2), [4.0, 3.0, 4.0, 3.5])
    np.testing.assert_allclose(smoothed(values, 1), values)


def test_a_line_breaks_where_the_other_stage_has_its_turn():
    steps, values = with_gaps(np.array([1, 2, 3, 7, 8]), np.arange(5.0))
    np.testing.assert_array_equal(steps, [1, 2, 3, 7, 7, 8])
    np.testing.assert_array_equal(values, [0, 1, 2, np.nan, 3, 4])


def test_a_store_in_the_working_folder_is_named_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_to_open(f"sqlite:///{tmp_path}/mlflow.db") == "sqlite:///mlflow.db"
    assert store_to_open(f"file://{tmp_path}/mlruns") == "mlruns"


def test_a_servers_address_and_its_password_stay_out_of_the_page():
    for uri in ("https://me:secret@tracking.example", "postgresql://me:secret@host/runs"):
        assert store_to_open(uri) is None


def test_a_step_that_fails_ends_the_demo_with_its_code_and_its_name(tmp_path, capfd):
    job = tmp_path / "job.py"
    job.write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit) as ended:
        demo.run("train", [str(job), "--epochs", "2"])
    assert ended.value.code == 3
    printed = capfd.readouterr()
    assert "job.py --epochs 2" in printed.out
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("error: the demo stopped at train, exit code 3")


def test_the_demo_trains_on_the_scene_that_it_generates():
    assert (CLIPS / f"{demo.SCENE}.mp4").is_file()
    keys = yaml.safe_load(Path(demo.CONFIG).read_text())
    settings = TrainSettings.model_validate(keys | {"data": "data", "output": "run"})
    ids = sorted(clip.stem for clip in CLIPS.glob("*.mp4"))
    training, held = held_out(ids, [None] * len(ids), settings.validation.held_out)
    assert len(held) == 1
    assert demo.SCENE in [ids[i] for i in training]
