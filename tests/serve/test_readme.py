"""The README's lines for the service do what they say, as they stand."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from serve.http.api import build_api
from serve.http.services import Services
from tests.serve.asking import completed

README = (Path(__file__).parents[2] / "README.md").read_text()


@contextmanager
def listening(services: Services) -> Iterator[str]:
    """The API on a port of this machine, and a replica that does each job at once."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(build_api(services), log_level="error"))
        ended = threading.Event()

        def replica() -> None:
            while not ended.wait(0.05):
                for job in services.store.page("", 10):
                    if job.status == "queued":
                        completed(services, job.id)

        threads = [
            threading.Thread(target=server.run, kwargs={"sockets": [listener]}),
            threading.Thread(target=replica),
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            server.should_exit = True
            for thread in threads:
                thread.join()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")
def test_the_lines_with_curl_make_a_clip(services, tmp_path):
    (lines,) = (block for block in re.findall(r"```sh\n(.*?)```", README, re.S) if "curl" in block)
    assert lines.count("/content") == lines.count("/sync") == 1
    services.settings.hosts = []
    with listening(services) as address:
        here = lines.replace("127.0.0.1:8000", address)
        script = here.replace("clip.mp4", "content.mp4", 1)  # which is written twice
        ran = subprocess.run(
            ["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "lift_box_1.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "content.mp4").read_bytes() == b"video"
    assert (tmp_path / "clip.mp4").read_bytes() == b"video"
    assert len(services.store.page("", 10)) == 2
