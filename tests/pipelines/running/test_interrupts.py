"""Ctrl-C and SIGTERM end a job in one line. Small jobs, as processes of their own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


def job(body: str, ending: str = "run_job(main)") -> subprocess.Popen[str]:
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    code = f"""
from pipelines.running.interrupts import Interrupted, run_job
import time
from pipelines.running.job_error import JobError
def main():
{indented}
{ending}
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupt(process: subprocess.Popen[str], number: int) -> tuple[int, list[str]]:
    """Wait for the job's first line, signal it, and give its code and the lines of its errors."""
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    return process.returncode, errors.splitlines()


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
def test_an_interrupt_is_one_line_that_says_how_to_go_on(number, name, code):
    ended, lines = interrupt(job("print('begun', flush=True); time.sleep(60)"), number)
    assert ended == code
    assert lines == [
        f"interrupted by {name}: what is finished is kept; the same command goes on from there"
    ]


def test_a_job_cleans_up_and_says_what_became_of_its_work():
    body = """
try:
    print('begun', flush=True); time.sleep(60)
except KeyboardInterrupt as interrupt:
    interrupt.outcome = 'step 7 is saved'
    raise
finally:
    print('closed', flush=True)
"""
    process = job(body, "run_job(main, resumes=False)")
    ended, lines = interrupt(process, signal.SIGTERM)
    assert ended == 143
    assert lines == ["interrupted by SIGTERM: step 7 is saved; the same command begins anew"]


def test_a_second_interrupt_ends_a_job_that_takes_long_to_end():
    body = """
try:
    print('begun', flush=True); time.sleep(60)
finally:
    print('ending', flush=True); time.sleep(60)
"""
    process = job(body)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "ending\n"
    ended, lines = interrupt_now(process, signal.SIGTERM)
    assert ended == 143 and lines == ["interrupted again: ended at once"]


def interrupt_now(process: subprocess.Popen[str], number: int) -> tuple[int, list[str]]:
    process.send_signal(number)
    errors = process.communicate(timeout=30)[1]
    return process.returncode, errors.splitlines()


def test_an_interrupt_while_libraries_load_is_one_line_too():
    process = job("pass", "print('loading', flush=True); time.sleep(60)")
    ended, lines = interrupt(process, signal.SIGINT)
    assert ended == 130 and lines == ["interrupted by Ctrl-C: nothing was begun"]


def test_a_job_that_cannot_go_on_ends_with_code_1_and_one_line():
    process = job("raise JobError('output: s3://bucket is full')")
    assert process.communicate(timeout=60)[1] == "error: output: s3://bucket is full\n"
    assert process.returncode == 1
