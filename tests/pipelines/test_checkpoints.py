import json
import math

import fsspec
import pytest

from pipelines import checkpoints, notices
from pipelines.checkpoints import (
    COMPLETE_FILE,
    CheckpointWriter,
    checkpoint_steps,
    checkpoint_url,
    latest_checkpoint,
    prune,
)
from pipelines.storage import exists, join, read_bytes, remove, write_bytes
from tests.pipelines.test_patience import at_once


@pytest.fixture(params=["file", "memory"])
def folder(request, tmp_path):
    if request.param == "file":
        yield f"file://{tmp_path}/checkpoints"
    else:
        yield "memory://run/checkpoints"
        remove("memory://run")


def writes(text):
    def write(local):
        (local / "state.json").write_text(text)

    return write


def test_the_last_ones_and_the_best_are_kept(folder):
    writer = CheckpointWriter(folder, keep_last=2)
    for step, score in ((10, 3.0), (20, 1.0), (30, 2.0), (40, None), (50, 4.0)):
        writer.save(step, writes(str(step)), score)
    writer.wait()
    assert list(checkpoint_steps(folder)) == [20, 40, 50]
    assert latest_checkpoint(folder) == checkpoint_url(folder, 50)
    with fsspec.open(join(checkpoint_url(folder, 20), "state.json"), "rt") as file:
        assert file.read() == "20"


def test_a_checkpoint_half_written_does_not_exist_and_is_cleared_away(folder):
    assert latest_checkpoint(folder) is None
    write_bytes(join(checkpoint_url(folder, 30), "state.json"), b"{")
    assert latest_checkpoint(folder) is None
    writer = CheckpointWriter(folder, keep_last=2)
    writer.save(10, writes("ten"), None)
    writer.wait()
    assert latest_checkpoint(folder) == checkpoint_url(folder, 10)
    writer.save(40, writes("forty"), None)
    writer.wait()
    assert not exists(join(checkpoint_url(folder, 30), "state.json"))
    assert list(checkpoint_steps(folder)) == [10, 40]


def test_the_mark_of_completeness_is_written_last(folder, monkeypatch):
    order = []
    monkeypatch.setattr(
        checkpoints,
        "put_folder",
        lambda local, url: order.append(sorted(p.name for p in local.iterdir())),
    )
    monkeypatch.setattr(
        checkpoints, "write_bytes", lambda url, data: order.append(json.loads(data))
    )
    writer = CheckpointWriter(folder, keep_last=1)
    writer.save(7, writes("seven"), 0.5)
    writer.wait()
    assert order == [["state.json"], {"step": 7, "score": 0.5, "files": {"state.json": 5}}]
    assert COMPLETE_FILE == "complete.json"


def test_a_storage_that_is_away_for_a_moment_is_tried_again(folder, monkeypatch):
    put, failures = checkpoints.put_folder, [ConnectionError("away"), TimeoutError("away")]

    def sometimes(local, url):
        if failures:
            raise failures.pop()
        put(local, url)

    monkeypatch.setattr(checkpoints, "put_folder", sometimes)
    monkeypatch.setattr(checkpoints, "patient", at_once)
    writer = CheckpointWriter(folder, keep_last=1)
    writer.save(7, writes("seven"), None)
    writer.wait()
    assert list(checkpoint_steps(folder)) == [7]


def test_a_write_that_cannot_succeed_is_raised_at_the_next_save(folder):
    def full(local):
        raise PermissionError("read-only")

    writer = CheckpointWriter(folder, keep_last=1)
    writer.save(1, full, None)
    with pytest.raises(PermissionError):
        writer.save(2, writes("two"), None)


def write_two(folder):
    writer = CheckpointWriter(folder, keep_last=2)
    for step in (10, 20):
        writer.save(step, writes("state" * step), None)
    writer.wait()
    return writer


DAMAGES = {
    "empty": (COMPLETE_FILE, b"", "it is empty"),
    "cut short": (COMPLETE_FILE, b'{"step": 2', "it holds no JSON"),
    "no object": (COMPLETE_FILE, b"[20]", "it names no step"),
    "no step": (COMPLETE_FILE, b"{}", "it names no step"),
    "tensors cut short": ("state.json", b"state", "it holds 5 bytes of 100"),
    "tensors gone": ("state.json", None, "it is gone"),
}


@pytest.mark.parametrize(("name", "data", "says"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    folder, name, data, says, monkeypatch
):
    lines = []
    monkeypatch.setattr(notices, "_take", lines.append)
    writer = write_two(folder)
    url = join(checkpoint_url(folder, 20), name)
    remove(url)
    if data is not None:
        write_bytes(url, data)
    assert list(checkpoint_steps(folder)) == [10]
    assert latest_checkpoint(folder) == checkpoint_url(folder, 10)
    (line,) = lines
    assert f"step-00000020/{name} is damaged: {says}" in line
    assert line.endswith(f"; going on from {checkpoint_url(folder, 10)}")

    writer.save(20, writes("again"), None)  # the training comes there once more
    writer.wait()
    assert list(checkpoint_steps(folder)) == [10, 20]
    assert read_bytes(join(checkpoint_url(folder, 20), "state.json")) == b"again"


def test_a_damaged_checkpoint_goes_when_a_later_one_is_written(folder):
    writer = write_two(folder)
    write_bytes(join(checkpoint_url(folder, 20), COMPLETE_FILE), b"")
    write_bytes(join(folder, "step-by-step", "notes.txt"), b"of a person")
    writer.save(30, writes("thirty"), None)
    writer.wait()
    assert list(checkpoint_steps(folder)) == [10, 30]
    assert not exists(join(checkpoint_url(folder, 20), "state.json"))
    assert exists(join(folder, "step-by-step", "notes.txt"))


def test_a_checkpoint_of_an_earlier_version_lists_no_files(folder):
    write_two(folder)
    complete = join(checkpoint_url(folder, 20), COMPLETE_FILE)
    write_bytes(complete, b'{"step": 20, "score": 1.5}')
    assert latest_checkpoint(folder) == checkpoint_url(folder, 20)


def test_a_score_that_is_no_number_is_none(folder):
    writer = CheckpointWriter(folder, keep_last=1)
    for step, score in ((10, 1.0), (20, math.nan), (30, 2.0), (40, None)):
        writer.save(step, writes(str(step)), score)
    writer.wait()
    assert list(checkpoint_steps(folder)) == [10, 40]
    complete = join(checkpoint_url(folder, 10), COMPLETE_FILE)
    written = json.loads(read_bytes(complete))
    write_bytes(complete, json.dumps(written | {"score": math.nan}).encode())
    prune(folder, 1)
    assert list(checkpoint_steps(folder)) == [40]


def test_a_step_that_is_validated_after_it_was_saved_gets_its_score(folder):
    writer = CheckpointWriter(folder, keep_last=1)
    for step, score in ((10, 2.0), (20, None), (20, 1.0), (20, None), (30, 3.0)):
        writer.save(step, writes(str(step)), score)
    writer.wait()
    assert list(checkpoint_steps(folder)) == [20, 30]
    assert read_bytes(join(checkpoint_url(folder, 20), "state.json")) == b"20"
