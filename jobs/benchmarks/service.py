"""The service as a person starts it, in processes of its own, for whoever measures or tries it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml

SERVE = str(Path(sys.executable).with_name("serve"))
START_S = 180


@dataclass
class Service:
    """A service on this machine, on a free port, with a Ray of its own.

    Attributes:
        folder: of its config, log, and, unless told otherwise, records and results.
        arguments: keys of `ServeSettings`.
        environment: added to this process's own.
    """

    folder: Path
    arguments: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        # Ray's sockets need a short path, and its note of the machine's cluster a place of its own.
        self._ray = tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return (self.folder / "serve.log").read_text()

    def start(self) -> None:
        """Start, and wait until it answers.

        Raises:
            RuntimeError: if it does not, with what it printed.
        """
        own = {
            "store": f"sqlite:///{self.folder}/jobs.db",
            "results": str(self.folder / "results"),
        }
        config = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": self.port},
            "applications": [
                {
                    "name": "handi",
                    "import_path": "serve.app:app",
                    "args": {**own, **self.arguments},
                    # The console of a person who asks nothing more than whether it runs.
                    "logging_config": {"log_level": "WARNING"},
                }
            ],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "serve.yaml"
        path.write_text(yaml.safe_dump(config))
        with (self.folder / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [SERVE, "run", str(path)],
                env={
                    **os.environ,
                    **self.environment,
                    "RAY_ADDRESS": "local",
                    "RAY_TMPDIR": self._ray.name,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell has jobs in its background ignore it, and so would their children.
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the service did not start:\n{self.log}")
            time.sleep(0.5)

    def stop(self) -> None:
        """As Ctrl-C does."""
        family = self._family()
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        self._kill(family)
        self._ray.cleanup()

    def kill(self) -> None:
        """All processes at once, as when a machine loses its power."""
        self._kill(self._family())

    def _kill(self, family: list[psutil.Process]) -> None:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)
        if self._process:
            self._process.wait()

    def replicas(self, deployment: str = "Generator") -> list[psutil.Process]:
        """The processes of a deployment; by default those that hold the model."""
        return [one for one in self._family() if deployment in _name(one)]

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def _family(self) -> list[psutil.Process]:
        if not self._process:
            return []
        try:
            parent = psutil.Process(self._process.pid)
        except psutil.NoSuchProcess:
            return []
        return [*parent.children(recursive=True), parent]


def _free_port() -> int:
    """Below those that connections get, of which one could be taken by the time of the start."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
