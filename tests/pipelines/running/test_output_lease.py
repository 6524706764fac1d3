"""One job at a time writes an output."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import fsspec
import psutil
import pytest

from pipelines.running import output_lease
from pipelines.running.output_lease import OutputHeld, held_output
from pipelines.storage import join, remove, write_bytes

REPOSITORY = Path(__file__).parents[3]
HOLD = """
import sys, time
from pipelines.running.output_lease import OutputHeld, held_output
try:
    with held_output(sys.argv[1], "jobs/train.py"):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
except OutputHeld:
    print("refused", flush=True)
"""


@pytest.fixture(params=["file", "memory"])
def output(request, tmp_path) -> str:
    url = str(tmp_path / "out") if request.param == "file" else f"memory://{tmp_path}"
    write_bytes(join(url, "settings.json"), b"{}")
    return url


def leases(output: str) -> list[str]:
    fs, path = fsspec.url_to_fs(output)
    return [name for name in fs.ls(path, detail=False) if "/.lease-" in name]


def another_machines(output: str, heartbeat_age_s: float) -> str:
    """A lease of a job on another machine; gives its URL."""
    now = time.time()
    lease = replace(
        output_lease._own("jobs/train.py"), host="node-7", pid=12, since=now - 600, boot="other"
    )
    url = join(output, f"{output_lease.PREFIX}{lease.id}.json")
    lease = replace(lease, heartbeat=now - heartbeat_age_s)
    write_bytes(url, json.dumps(asdict(lease)).encode())
    return url


def test_the_second_job_is_refused_in_a_line_that_says_who_holds_the_output(output):
    with held_output(output, "jobs/preprocess.py"):
        with pytest.raises(OutputHeld) as refused, held_output(output, "jobs/train.py"):
            pytest.fail("two hold the output")
        message = str(refused.value)
        assert "\n" not in message and f"output: {output}" in message
        assert "jobs/preprocess.py" in message and "another output" in message
    with held_output(output, "jobs/train.py"):
        assert len(leases(output)) == 1
    assert not leases(output)


def test_an_output_is_given_back_when_the_job_fails(output):
    with pytest.raises(RuntimeError), held_output(output, "jobs/train.py"):
        raise RuntimeError
    assert not leases(output)


def test_a_job_on_another_machine_holds_the_output_as_long_as_its_heart_beats(output, monkeypatch):
    monkeypatch.setattr(output_lease, "HEARTBEAT_S", 0.05)
    theirs = another_machines(output, heartbeat_age_s=output_lease.STALE_S / 2)
    with (
        pytest.raises(OutputHeld, match="process 12 on node-7"),
        held_output(output, "jobs/train.py"),
    ):
        pytest.fail("two hold the output")
    remove(theirs)
    another_machines(output, heartbeat_age_s=2 * output_lease.STALE_S)
    with held_output(output, "jobs/train.py"):
        assert len(leases(output)) == 1, "what has lapsed is cleared away"


def test_a_damaged_lease_holds_nothing(output):
    write_bytes(join(output, f"{output_lease.PREFIX}0.json"), b"")
    with held_output(output, "jobs/train.py"):
        pass


def test_the_lease_of_a_job_that_was_killed_here_holds_nothing(tmp_path):
    job = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path, "60"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None and job.stdout.readline() == "held\n"
    with pytest.raises(OutputHeld), held_output(str(tmp_path), "jobs/train.py"):
        pytest.fail("two hold the output")
    job.kill()
    wait_until(lambda: psutil.Process(job.pid).status() == psutil.STATUS_ZOMBIE)
    with held_output(str(tmp_path), "jobs/train.py"):
        pass
    job.wait()


def test_of_jobs_that_start_at_one_moment_at_most_one_holds_the_output(tmp_path):
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path, "12"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = sorted(job.communicate(timeout=60)[0] for job in jobs)
    assert said == ["held\n", "refused\n", "refused\n"]


def test_a_clock_that_is_behind_does_not_make_a_lease_lapse(output, monkeypatch):
    monkeypatch.setattr(output_lease, "HEARTBEAT_S", 0.5)
    url = another_machines(output, heartbeat_age_s=10 * output_lease.STALE_S)
    lease = output_lease._read(url)
    assert lease is not None
    beat = threading.Timer(
        0.2, lambda: output_lease._write(output, replace(lease, heartbeat=lease.heartbeat + 1))
    )
    beat.start()
    with pytest.raises(OutputHeld, match="node-7"), held_output(output, "jobs/train.py"):
        pytest.fail("two hold the output")
    beat.join()


def test_the_heartbeat_goes_on(output, monkeypatch):
    monkeypatch.setattr(output_lease, "HEARTBEAT_S", 0.05)
    with held_output(output, "jobs/train.py"):
        (mine,) = leases(output)
        fs, _ = fsspec.url_to_fs(output)
        first = json.loads(fs.cat_file(mine))["heartbeat"]
        wait_until(lambda: json.loads(fs.cat_file(mine))["heartbeat"] > first)


def test_a_job_that_lost_its_lease_ends_at_once(tmp_path):
    faster = "from pipelines.running import output_lease\noutput_lease.HEARTBEAT_S = 0.1"
    job = subprocess.Popen(
        [sys.executable, "-c", faster + HOLD, tmp_path, "60"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None and job.stdout.readline() == "held\n"
    (mine,) = leases(str(tmp_path))
    Path(mine).unlink()
    assert "was taken over" in job.communicate(timeout=60)[1]
    assert job.returncode == 1


def wait_until(holds) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
