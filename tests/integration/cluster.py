"""A Ray cluster of two nodes on one machine, each started as a person starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.integration.conftest import REPOSITORY, free_port, wait_for_port
from tests.integration.trainings import end

RAY = str(Path(sys.executable).with_name("ray"))

WITHOUT_TOKENS = {"RAY_AUTH_MODE": "disabled"}
"""Whether the home folder has a token from another cluster does not matter here."""


@dataclass(frozen=True)
class Cluster:
    """Attributes:
    head, second: the processes of `ray start --block`.
    dashboard: the address that jobs are submitted to.
    """

    head: psutil.Process
    second: psutil.Process
    dashboard: str

    def submit(self, environment: dict[str, str], *command: object) -> subprocess.Popen[str]:
        """`ray job submit` of the checkout, which prints the job's console."""
        submitted = ["job", "submit", "--address", self.dashboard, "--working-dir", "."]
        environment = {**environment, **WITHOUT_TOKENS}
        return subprocess.Popen(
            [RAY, *submitted, "--", *map(str, command)],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill_second(self) -> None:
        """The second node is gone from one moment to the next."""
        for one in self.second.children(recursive=True):
            if "raylet" in one.name():
                one.kill()


@contextmanager
def two_nodes(environment: dict[str, str]) -> Iterator[Cluster]:
    """A head of three CPUs and a second node of two, in a folder of their own.

    Ray leaves a note of the machine's cluster in its folder, and others would look for this one
    after it was killed.
    """
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        yield from _two_nodes({**environment, "RAY_TMPDIR": folder})


def _two_nodes(environment: dict[str, str]) -> Iterator[Cluster]:
    port, dashboard = free_port(), free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, **environment, **WITHOUT_TOKENS, "RAY_BACKEND_LOG_LEVEL": "fatal"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    common = ["--block", "--node-ip-address", "127.0.0.1", "--object-store-memory", "300000000"]
    head = subprocess.Popen(
        [RAY, "start", "--head", "--port", str(port), "--num-cpus", "3", *common]
        + ["--dashboard-port", str(dashboard), "--ray-client-server-port", str(free_port())]
        + ["--dashboard-agent-listen-port", str(free_port())],
        env=environment,
        **quiet,
    )
    nodes = [head]
    try:
        wait_for_port(port)
        wait_for_port(dashboard)
        second = subprocess.Popen(
            [RAY, "start", "--address", f"127.0.0.1:{port}", "--num-cpus", "2", *common]
            # A folder of its own, as another machine has: nodes clear away what jobs unpack there.
            + ["--temp-dir", f"{environment['RAY_TMPDIR']}/2"]
            + ["--dashboard-agent-listen-port", str(free_port())],
            env=environment,
            **quiet,
        )
        nodes.append(second)
        yield Cluster(
            psutil.Process(head.pid),
            psutil.Process(second.pid),
            f"http://127.0.0.1:{dashboard}",
        )
    finally:
        for node in reversed(nodes):
            family = psutil.Process(node.pid).children(recursive=True)
            node.kill()
            end(family)
            node.wait()
