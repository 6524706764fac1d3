"""What a training tells a real MLflow server that comes late, dies, or never answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient

from handi_model import HandiPipeline
from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from jobs.experiment import Experiment
from tests.integration.conftest import REPOSITORY, free_port, wait_for_port


class Server:
    """`mlflow server` on one port and one database, started and killed at will."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process:
            return
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        artifacts = ["--artifacts-destination", str(self.folder / "artifacts")]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *artifacts, *address],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for_port(self.port)

    def send(self, number: signal.Signals) -> None:
        assert self._process
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process:
            self.send(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def server(machine, tmp_path, monkeypatch) -> Server:
    """Where the training's records go; it may run or not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", machine.uri)
    return machine


def begin(**more: str) -> Experiment:
    return Experiment.start("train", "a run", {"rate": 0.1, "empty": ""}, {}, **more)


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def told_away(said: list[str], capsys) -> bool:
    """Whether it stands on the console that the server is away; what stood there goes to `said`."""
    said.append(capsys.readouterr().err)
    return "does not answer" in said[-1]


def steps(server: Server, run: Experiment) -> list[int]:
    history = MlflowClient(tracking_uri=server.uri).get_metric_history(run.run_id, "loss")
    return [one.step for one in history]


def test_a_server_that_is_never_up_costs_the_record_alone(server, capsys):
    server.kill()
    run = begin()
    for step in range(20):
        run.log_metrics(step, {"loss": 1.0})
    run.log_bytes("a.txt", b"a")
    said: list[str] = []
    wait_until(lambda: told_away(said, capsys))
    assert run.close(timeout_s=1) == 1 + 20 + 1 + 1  # beginning, metrics, file, end
    assert run.run_id is None
    away, lost = "".join([*said, capsys.readouterr().err]).splitlines()
    assert away.startswith(f"tracking: {server.uri} does not answer (")
    assert away.endswith("records wait")
    assert lost == f"tracking: {server.uri} lacks 23 of the run's records"


def test_a_server_that_takes_calls_and_never_answers_does_not_hold_the_end(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        run = begin()
        run.log_metrics(1, {"loss": 1.0})
        assert run.close(timeout_s=1) == 3


def test_a_server_that_comes_late_gets_everything(server, capsys):
    server.kill()
    run = begin()
    for step in range(3000):
        run.log_metrics(step, {"loss": 1.0})
    wait_until(lambda: "does not answer" in capsys.readouterr().err)
    server.start()
    assert run.wait_for_run(120)
    assert run.close() == 0
    assert steps(server, run) == list(range(3000))
    told = MlflowClient(tracking_uri=server.uri).get_run(run.run_id)
    assert told.info.status == "FINISHED"
    assert told.data.params["rate"] == "0.1"
    assert "answers again" in capsys.readouterr().err


@pytest.mark.timeout(100)  # less than MLflow itself would wait for one answer
def test_a_server_that_falls_silent_over_a_file_does_not_hold_the_end(server):
    server.start()
    run = begin()
    run.log_metrics(1, {"loss": 1.0})
    wait_until(lambda: run.run_id and steps(server, run) == [1])
    server.send(signal.SIGSTOP)
    try:
        run.log_bytes("a.txt", b"a")
        time.sleep(0.5)  # until it is on its way
        run.log_metrics(2, {"loss": 1.0})
        assert run.close(timeout_s=1) == 3
    finally:
        server.send(signal.SIGCONT)


def test_a_server_killed_in_the_middle_and_restarted_gets_everything(server, capsys):
    server.start()
    run = begin()
    run.log_metrics(0, {"loss": 1.0})
    wait_until(lambda: run.run_id and steps(server, run) == [0])
    server.kill()
    for step in range(1, 10):
        run.log_metrics(step, {"loss": 1.0})
    run.log_bytes("samples/epoch-0001/clip.mp4", b"film")
    said: list[str] = []
    wait_until(lambda: told_away(said, capsys))
    server.start()
    assert run.close() == 0
    assert steps(server, run) == list(range(10))
    client = MlflowClient(tracking_uri=server.uri)
    (film,) = client.list_artifacts(run.run_id, "samples/epoch-0001")
    assert film.path == "samples/epoch-0001/clip.mp4"
    assert client.get_run(run.run_id).info.status == "FINISHED"
    away, back = "".join([*said, capsys.readouterr().err]).splitlines()
    assert away.startswith(f"tracking: {server.uri} does not answer (")
    assert back == f"tracking: {server.uri} answers again"


def test_a_training_killed_and_resumed_goes_on_in_its_run(server):
    server.start()
    search = begin()
    first = begin(run_id="0" * 32, parent_run_id=search.wait_for_run())
    assert first.wait_for_run() != "0" * 32
    first.close("KILLED")
    again = Experiment.start("train", "a run", {"rate": 0.2}, {}, run_id=first.run_id)
    again.wait_for_run()
    client = MlflowClient(tracking_uri=server.uri)
    assert client.get_run(first.run_id).info.status == "RUNNING"
    assert again.close() == search.close() == 0
    told = client.get_run(first.run_id)
    assert told.info.status == "FINISHED"
    assert told.data.params == {"rate": "0.1", "empty": ""}
    assert told.data.tags["resumed.rate"] == "0.2"
    assert told.data.tags["mlflow.parentRunId"] == search.run_id


CONSOLE = """
from jobs.experiment import Experiment

run = Experiment.start("train", "a run", dict(rate=0.1), {{}})
run.log_metrics(1, dict(loss=1.0))
run.log_bytes("a.txt", b"a")
run.close(timeout_s={timeout_s})
"""


@pytest.mark.parametrize("down", [False, True])
def test_mlflow_itself_says_nothing_on_the_console(down, tmp_path):
    """In a process of its own: pytest takes what is logged off the console."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    if down:
        environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{free_port()}"
    done = subprocess.run(
        [sys.executable, "-c", CONSOLE.format(timeout_s=1 if down else 60)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    shown = done.stdout.splitlines()
    assert len(shown) == (2 if down else 0), done.stdout
    assert all(line.startswith("tracking: ") for line in shown)


def test_a_registered_model_opens_as_a_pipeline(server, tmp_path):
    server.start()
    pipe = new_pipeline(ModelConfig.of("tiny"))
    pipe.save_pretrained(tmp_path / "model")
    run = begin()
    run.register_model(tmp_path / "model", "handi")
    assert run.close() == 0
    folder = mlflow.artifacts.download_artifacts(
        "models:/handi/1", dst_path=str(tmp_path / "back"), tracking_uri=server.uri
    )
    again = HandiPipeline.from_pretrained(folder).unet.state_dict()
    assert all(torch.equal(again[key], value) for key, value in pipe.unet.state_dict().items())
    top = MlflowClient(tracking_uri=server.uri).list_artifacts(run.run_id)
    assert [one.path for one in top] == ["model"]
