"""Real things to run against: the job as a process, an S3 server, outputs read back."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    code: int
    output: str
    """Standard output and error together."""


def job_command(*arguments: object) -> list[str]:
    return [sys.executable, "jobs/preprocess.py", *map(str, arguments)]


@pytest.fixture
def preprocess(hand_model):
    """Run the job as a user would; `environment` is added to this process's own."""

    def run(*arguments: object, environment: dict[str, str] | None = None) -> Finished:
        done = subprocess.run(
            job_command(*arguments, "--hand-model", hand_model),
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
        return Finished(done.returncode, done.stdout)

    return run


@dataclass
class S3Server:
    folder: Path
    """Each folder in it is a bucket."""
    port: int
    environment: dict[str, str]
    """AWS variables by which s3fs finds the server."""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        rclone = shutil.which("rclone", path=Path(sys.executable).parent) or "rclone"
        where = ["--auth-key", "KEY,SECRET", "--addr", f"127.0.0.1:{self.port}", self.folder]
        self.process = subprocess.Popen(
            [rclone, "serve", "s3", *where], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_port(self.port)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def filesystem(self) -> s3fs.S3FileSystem:
        return s3fs.S3FileSystem(
            key=self.environment["AWS_ACCESS_KEY_ID"],
            secret=self.environment["AWS_SECRET_ACCESS_KEY"],
            client_kwargs={"endpoint_url": self.environment["AWS_ENDPOINT_URL"]},
            use_listings_cache=False,
        )


@pytest.fixture
def s3(tmp_path, monkeypatch) -> Iterator[S3Server]:
    folder = tmp_path / "s3"
    (folder / "raw").mkdir(parents=True)
    (folder / "out").mkdir()
    port = free_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    server = S3Server(folder, port, environment)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")
