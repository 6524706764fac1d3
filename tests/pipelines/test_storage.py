import errno
import os
import subprocess

import pytest
from fsspec.implementations.local import LocalFileSystem

from pipelines.storage import (
    absolute,
    fetch_folder,
    find,
    put_folder,
    read_bytes,
    remove,
    sizes,
    writable,
    write_bytes,
)


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    url = writable(str(tmp_path / "a" / "b"))
    assert url == f"file://{tmp_path}/a/b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"output: .*file/below cannot be written: ") as refused:
        writable(str(tmp_path / "file" / "below"))
    assert "\n" not in str(refused.value)


def test_an_unknown_storage_is_a_value_error():
    with pytest.raises(ValueError, match="nowhere"):
        absolute("nowhere://bucket/folder")


def test_a_folder_goes_to_a_store_and_comes_back_whole(tmp_path):
    given = tmp_path / "model"
    (given / "unet").mkdir(parents=True)
    (given / "model_index.json").write_text("{}")
    (given / "unet" / "weights").write_bytes(b"\0\1")
    url = "memory://runs/7/model"
    put_folder(given, url)
    assert read_bytes(f"{url}/model_index.json") == b"{}"
    assert len(find(url, "")) == 2
    back = fetch_folder(url, tmp_path / "scratch")
    assert (back / "model_index.json").read_text() == "{}"
    assert (back / "unet" / "weights").read_bytes() == b"\0\1"


def test_a_local_folder_is_used_where_it_lies(tmp_path):
    assert fetch_folder(f"file://{tmp_path}", tmp_path / "scratch") == tmp_path


def test_copying_twice_does_not_nest(tmp_path):
    given, target = tmp_path / "model", tmp_path / "out"
    given.mkdir()
    (given / "weights").write_bytes(b"1")
    for content in (b"1", b"2"):
        (given / "weights").write_bytes(content)
        put_folder(given, f"file://{target}")
    assert [path.name for path in target.rglob("*")] == ["weights"]
    assert (target / "weights").read_bytes() == b"2"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(str(tmp_path / "clip.mp4"), b"clip")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of one mebibyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("disks cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_keeps_what_it_has_and_gets_no_half_file(small_disk):
    url = str(small_disk / "clips" / "a.parquet")
    write_bytes(url, b"old")
    with pytest.raises(OSError) as full:
        write_bytes(url, b"x" * (2 << 20))
    assert full.value.errno == errno.ENOSPC
    assert [path.name for path in (small_disk / "clips").iterdir()] == ["a.parquet"]
    assert read_bytes(url) == b"old"


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    url = str(tmp_path / ("n" * 255))
    write_bytes(url, b"1")
    assert read_bytes(url) == b"1"


def test_a_folder_that_is_a_file_is_told_as_such(tmp_path):
    (tmp_path / "file").write_text("")
    for url in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="cannot be written: it, or what it lies in, is a fi"):
            writable(str(url))


@pytest.mark.parametrize(("url", "says"), [("", "an empty URL"), ("s3://", "names no bucket")])
def test_a_url_that_names_nothing_is_refused(url, says):
    with pytest.raises(ValueError, match=f"output: {url} cannot be written: .*{says}"):
        writable(url)


@pytest.mark.parametrize("folder", ["file", "memory"])
def test_finished_files_have_their_sizes(tmp_path, folder):
    url = f"file://{tmp_path}/run" if folder == "file" else "memory://sizes/run"
    assert sizes(url) == {}
    write_bytes(f"{url}/a/b", b"123")
    write_bytes(f"{url}/c", b"")
    write_bytes(f"{url}/.hidden", b"1")
    assert sizes(url) == {f"{absolute(url)}/a/b": 3, f"{absolute(url)}/c": 0}
    assert find(url, "b") == [f"{absolute(url)}/a/b"]


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    scandir = os.scandir

    def away(folder):
        if str(folder).endswith("below"):
            raise OSError(errno.ESTALE, "Stale file handle")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", away)
    with pytest.raises(OSError, match="Stale"):
        find(str(tmp_path), "")


def test_of_two_that_remove_a_folder_at_once_none_leaves_a_file(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / "job").mkdir(exist_ok=True)
        (tmp_path / "job" / name).write_text("")
    rm = LocalFileSystem.rm

    def raced(self, path, recursive):
        monkeypatch.undo()
        os.remove(tmp_path / "job" / "a")  # the other one's; it goes on with the next
        raise FileNotFoundError(f"{path}/a")

    monkeypatch.setattr(LocalFileSystem, "rm", raced)
    remove(str(tmp_path / "job"))
    assert LocalFileSystem.rm is rm and not (tmp_path / "job").exists()
