"""EPIC-KITCHENS-100: the published columns, the download's layouts, and damaged rows."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from unittest.mock import patch

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from pipelines.annotations import AnnotationsError
from pipelines.annotations.epic_kitchens import read
from pipelines.annotations.fields import timestamp
from tests.pipelines.annotations.conftest import Store

GOOD = {
    "narration_id": "P01_11_0",
    "participant_id": "P01",
    "video_id": "P01_11",
    "narration_timestamp": "00:00:00.560",
    "start_timestamp": "00:00:00.50",
    "stop_timestamp": "01:02:03.89",
    "start_frame": "30",
    "stop_frame": "223433",
    "narration": "turn tap off",
    "verb": "turn-off",
    "verb_class": "4",
    "noun": "tap",
    "noun_class": "0",
    "all_nouns": "['tap', 'top:sink']",
    "all_noun_classes": "[0, 42]",
}
COLUMNS = list(GOOD)


def table(*rows: dict[str, str], columns: list[str] = COLUMNS) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.fixture
def videos(store: Store, memory: str) -> str:
    store("videos/P01/videos/P01_11.MP4", b"")
    return f"{memory}/videos"


def test_a_published_row_is_a_clip(store: Store, videos: str) -> None:
    found = read(store("EPIC_100_train.csv", table(GOOD)), videos)
    assert not found.problems
    (clip,) = found.clips
    assert clip.clip_id == "P01_11_0"
    assert (clip.dataset, clip.split, clip.participant) == ("epic-kitchens", "train", "P01")
    assert (clip.start_s, clip.stop_s) == (0.5, pytest.approx(3723.89))
    assert (clip.narration, clip.verb, clip.noun) == ("turn tap off", "turn-off", "tap")
    assert (clip.verb_class, clip.noun_class) == (4, 0)
    assert clip.video_uri == "memory:///data/videos/P01/videos/P01_11.MP4"


@pytest.mark.parametrize(
    "layout",
    [
        "P01/videos/P01_11.MP4",
        "EPIC-KITCHENS/P01/videos/P01_11.MP4",
        "P01_11.MP4",
        "P01_11.mp4",
        "small/P01_11.mkv",
    ],
)
def test_the_video_is_found_in_each_layout(tmp_path: Path, layout: str) -> None:
    video = tmp_path / "videos" / layout
    video.parent.mkdir(parents=True)
    video.touch()
    (tmp_path / "train.csv").write_text(table(GOOD))
    (clip,) = read(str(tmp_path / "train.csv"), str(tmp_path / "videos")).clips
    assert clip.video_uri == f"file://{video}"


def test_a_missing_video_keeps_its_clip_at_the_official_place(store: Store, videos: str) -> None:
    row = GOOD | {"participant_id": "P02", "video_id": "P02_09"}
    (clip,) = read(store("a.csv", table(row)), videos).clips
    assert clip.video_uri == "memory:///data/videos/P02/videos/P02_09.MP4"


def test_the_videos_are_listed_once(store: Store, videos: str) -> None:
    rows = [GOOD | {"narration_id": f"P01_11_{n}"} for n in range(50)]
    url = store("a.csv", table(*rows))
    with patch.object(MemoryFileSystem, "find", autospec=True, side_effect=MemoryFileSystem.find):
        assert len(read(url, videos).clips) == 50
        assert MemoryFileSystem.find.call_count == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"start_timestamp": "12.5"}, "start_timestamp is '12.5' (expected HH:MM:SS.sss)"),
        ({"stop_timestamp": ""}, "stop_timestamp is '' (expected HH:MM:SS.sss)"),
        (
            {"start_timestamp": "00:00:09.00", "stop_timestamp": "00:00:08.50"},
            "stop_timestamp (8.500 s) must be after start_timestamp (9.000 s)",
        ),
        ({"stop_timestamp": GOOD["start_timestamp"]}, "must be after"),
        ({"verb_class": "4.5"}, "verb_class is '4.5'"),
        ({"noun_class": "tap"}, "noun_class is 'tap'"),
        ({"noun_class": "2147483648"}, "noun_class is '2147483648'"),
        ({"narration_id": "P01\n11"}, "narration_id is 'P01\\n11' (expected a name without line"),
        ({"narration": " "}, "narration is ' '"),
        ({"narration_id": ""}, "narration_id is ''"),
        ({"video_id": ""}, "video_id is ''"),
    ],
)
def test_a_malformed_row_is_told_with_line_column_value_and_expectation(
    store: Store, videos: str, change: dict[str, str], told: str
) -> None:
    rows = [GOOD | {"narration_id": "a"}, GOOD | change, GOOD | {"narration_id": "b"}]
    found = read(store("EPIC_100_train.csv", table(*rows)), videos)
    assert [clip.clip_id for clip in found.clips] == ["a", "b"]
    (problem,) = found.problems
    assert problem.clip_id == "EPIC_100_train.csv:3"
    assert (problem.stage, problem.error_type) == ("annotations", "MalformedRow")
    assert problem.message.startswith("EPIC_100_train.csv:3: ") and told in problem.message
    assert "\n" not in problem.message


def test_a_table_saved_by_a_spreadsheet_is_read(store: Store, videos: str) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter=";")
    writer.writeheader()
    writer.writerow(GOOD | {"narration": "turn\r\ntap \x07off"})
    for encoding in ("utf-8-sig", "utf-16"):
        found = read(store("a.csv", text.getvalue().encode(encoding)), videos)
        assert [clip.narration for clip in found.clips] == ["turn tap off"]
        assert not found.problems


def test_line_numbers_hold_after_a_field_with_line_breaks(store: Store, videos: str) -> None:
    rows = [GOOD | {"narration": "turn\ntap\noff"}, GOOD | {"start_timestamp": "?"}]
    found = read(store("a.csv", table(*rows)), videos)
    assert [problem.clip_id for problem in found.problems] == ["a.csv:5"]
    assert len(found.clips) == 1


def test_a_row_with_too_few_columns_stops_nothing(store: Store, videos: str) -> None:
    text = table(GOOD) + "P01_11_1,P01\n" + table(GOOD | {"narration_id": "b"}).split("\n", 1)[1]
    found = read(store("a.csv", text), videos)
    assert [clip.clip_id for clip in found.clips] == ["P01_11_0", "b"]
    assert [p.message for p in found.problems] == ["a.csv:3: 2 columns, expected 15"]


def test_the_second_row_of_an_id_is_a_duplicate(store: Store, videos: str) -> None:
    found = read(store("a.csv", table(GOOD, GOOD)), videos)
    assert len(found.clips) == 1
    (problem,) = found.problems
    assert (problem.clip_id, problem.error_type) == ("a.csv:3", "DuplicateClip")
    assert "'P01_11_0' was taken at a.csv:2" in problem.message


def test_a_folder_gives_train_and_validation_or_the_split_asked_for(
    store: Store, videos: str, memory: str
) -> None:
    for n, name in enumerate(["train", "validation", "test_timestamps"]):
        columns = COLUMNS[:8] if name == "test_timestamps" else COLUMNS
        row = GOOD | {"narration_id": f"P01_11_{n}"}
        store(f"csv/EPIC_100_{name}.csv", table(row, columns=columns))

    def splits(split: str | None) -> list[str]:
        return [clip.split for clip in read(f"{memory}/csv", videos, split).clips]

    assert splits(None) == ["train", "validation"]
    assert splits("train") == ["train"]
    assert splits("val") == splits("validation") == ["validation"]
    assert splits("test") == ["test"]


def test_the_test_file_has_no_labels(store: Store, videos: str) -> None:
    url = store("EPIC_100_test_timestamps.csv", table(GOOD, columns=COLUMNS[:8]))
    (clip,) = read(url, videos).clips
    assert (clip.split, clip.narration, clip.verb, clip.noun) == ("test", "", "", "")
    assert clip.verb_class is None and clip.noun_class is None


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("EPIC_100_uda_source_train.csv", "train"),
        ("EPIC_100_validation.csv", "validation"),
        ("latest.csv", ""),
    ],
)
def test_the_split_of_a_single_file_comes_from_its_name(
    store: Store, videos: str, name: str, split: str
) -> None:
    (clip,) = read(store(name, table(GOOD)), videos).clips
    assert clip.split == split


def test_what_concerns_the_whole_job_is_one_error(store: Store, videos: str, memory: str) -> None:
    whole = store("EPIC_100_train.csv", table(GOOD))
    part = store("part.csv", table(GOOD, columns=[c for c in COLUMNS if c != "verb"]))
    none = store("none.csv", table(GOOD, columns=[c for c in COLUMNS if c != "video_id"]))
    misspelt = store("misspelt.csv", table(GOOD).replace("narration,verb", "narations,verb"))
    for args, told in [
        ((whole, videos, "validation"), "holds the train split"),
        ((whole, videos, "dev"), "expected train, validation or test"),
        ((part, videos), "part.csv: no column verb; its columns are"),
        ((misspelt, videos), "misspelt.csv: no column narration; .* narration by narations"),
        ((none, videos), "none.csv: no column video_id"),
        ((f"{memory}/missing.csv", videos), "missing.csv: no such file"),
        ((memory, videos), "EPIC_100_validation.csv: no such file"),
        ((whole, f"{memory}/nowhere"), "nowhere: no such folder"),
    ]:
        with pytest.raises(AnnotationsError, match=told):
            read(*args)


@given(st.integers(0, 999 * 3_600_000))
def test_timestamps_round_trip(milliseconds: int) -> None:
    whole, thousandths = divmod(milliseconds, 1000)
    hours, minutes, secs = whole // 3600, whole // 60 % 60, whole % 60
    text = f"{hours:02}:{minutes:02}:{secs:02}.{thousandths:03}"
    assert timestamp(text) == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.text("0123456789:.-", max_size=12))
def test_what_is_no_timestamp_is_a_value_error(text: str) -> None:
    try:
        assert timestamp(text) >= 0
    except ValueError as error:
        assert str(error) == "expected HH:MM:SS.sss"


value = st.sampled_from(["", "P01_11_0", "x", "00:00:01.0", "00:00:02.5", "1", "-1", "é\n"])


@given(
    st.lists(
        st.builds(lambda change: GOOD | change, st.dictionaries(st.sampled_from(COLUMNS), value)),
        max_size=10,
    )
)
def test_every_row_is_a_clip_or_a_problem(rows: list[dict[str, str]]) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/property/train.csv", table(*rows).encode())
    found = read("memory://property/train.csv", "memory://property")
    assert len(found.clips) + len(found.problems) == len(rows)
    assert len({clip.clip_id for clip in found.clips}) == len(found.clips)
    assert len({problem.clip_id for problem in found.problems}) == len(found.problems)
    assert all("\n" not in problem.message for problem in found.problems)


@pytest.mark.skipif(
    "HANDI_TEST_ANNOTATIONS" not in os.environ,
    reason="HANDI_TEST_ANNOTATIONS names no folder with the published CSVs",
)
@pytest.mark.parametrize(
    ("name", "rows"),
    [("EPIC_100_validation.csv", 9668), ("EPIC_100_uda_source_train.csv", 16115)],
)
def test_every_published_row_is_accounted_for(tmp_path: Path, name: str, rows: int) -> None:
    found = read(os.path.join(os.environ["HANDI_TEST_ANNOTATIONS"], name), str(tmp_path))
    assert len(found.clips) + len(found.problems) == rows
    assert len(found.problems) < rows // 1000
