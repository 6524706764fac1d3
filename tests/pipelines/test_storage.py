import pytest

from pipelines.storage import (
    absolute,
    fetch_folder,
    find,
    put_folder,
    read_bytes,
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
