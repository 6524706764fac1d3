"""The videos are found with one listing, in whatever layout they stand."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from pipelines.annotations import AnnotationsError
from pipelines.annotations.videos import list_videos
from tests.pipelines.annotations.conftest import Store


def test_hidden_files_and_other_files_are_no_videos(tmp_path: Path) -> None:
    for name in ["b.MP4", "a/c.webm", ".hidden.mp4", ".cache/d.mp4", "e.txt", "mp4"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    listing = list_videos(str(tmp_path))
    assert listing.paths == ["a/c.webm", "b.MP4"]
    assert listing.uri("b.MP4") == f"file://{tmp_path}/b.MP4"


def test_one_video_is_a_listing_of_one(store: Store) -> None:
    listing = list_videos(store("x/a.mp4", b""))
    assert [listing.uri(path) for path in listing.paths] == ["memory:///data/x/a.mp4"]


def test_a_listing_gives_urls_that_open(store: Store, memory: str) -> None:
    store("deep/er/a.mp4", b"film")
    listing = list_videos(f"{memory}/")
    with fsspec.open(listing.uri(listing.paths[0])) as file:
        assert file.read() == b"film"


def test_no_such_folder_stops_the_job(tmp_path: Path, memory: str) -> None:
    for root in [str(tmp_path / "none"), memory]:
        with pytest.raises(AnnotationsError, match="no such folder"):
            list_videos(root)
    assert list_videos(str(tmp_path)).paths == []


def test_of_several_files_the_official_one_is_taken(store: Store, memory: str) -> None:
    store("a.mp4", b"")
    store("down/full_scale/a.mp4", b"")
    store("down/small/b.mp4", b"")
    listing = list_videos(memory)
    assert listing.locate("a", "full_scale/a.mp4").endswith("/data/down/full_scale/a.mp4")
    assert listing.locate("a", "nowhere/a.mp4").endswith("/data/a.mp4")
    assert listing.locate("b", "full_scale/b.mp4").endswith("/data/down/small/b.mp4")
    assert listing.locate("c", "full_scale/c.mp4").endswith("/data/full_scale/c.mp4")
    assert listing.locate("c", "full_scale/c.mp4", "c.mp4").endswith("/data/c.mp4")


def test_links_to_files_and_folders_are_followed_and_each_video_is_listed_once(
    tmp_path: Path,
) -> None:
    store, root = tmp_path / "store", tmp_path / "videos"
    for path in [store / "far" / "c.mp4", store / "b.mp4", root / "z" / "a.mp4"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "b.mp4").symlink_to(store / "b.mp4")  # out of the folder
    (root / "more").symlink_to(store / "far")
    (root / "a alias.mp4").symlink_to(root / "z" / "a.mp4")  # what is listed already
    (root / "again").symlink_to(root / "z")
    (root / "z" / "circle").symlink_to(root)
    (store / "far" / "self").symlink_to(store / "far")
    assert list_videos(str(root)).paths == ["b.mp4", "more/c.mp4", "z/a.mp4"]


def test_a_video_is_located_by_the_name_that_a_link_gives_it(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "GX010001.mp4").touch()
    (tmp_path / "uid.mp4").symlink_to(tmp_path / "raw" / "GX010001.mp4")
    listing = list_videos(str(tmp_path))
    assert listing.paths == ["raw/GX010001.mp4"]
    assert listing.locate("uid", "full_scale/uid.mp4") == f"file://{tmp_path}/uid.mp4"


def test_a_link_to_nothing_is_a_video_that_decoding_reports(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone.mp4")
    assert list_videos(str(tmp_path)).paths == ["a.mp4"]


def test_a_folder_that_is_a_link_itself_is_listed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    listing = list_videos(str(tmp_path / "link"))
    assert [listing.uri(path) for path in listing.paths] == [f"file://{tmp_path}/link/a.mp4"]
