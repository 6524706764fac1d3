"""A folder of videos, with and without captions."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.annotations import AnnotationsError
from pipelines.annotations.file_names import words
from pipelines.annotations.folder import read
from pipelines.rendered import CLIPS
from tests.pipelines.annotations.conftest import Store


@pytest.fixture
def videos(store: Store, memory: str) -> str:
    for name in ["open_drawer-02.mp4", "kitchen/stir the pan.MOV", "kitchen/0007.mkv"]:
        store(f"videos/{name}", b"")
    return f"{memory}/videos"


def test_without_captions_each_video_is_one_clip(videos: str) -> None:
    found = read(videos)
    assert not found.problems
    assert [(clip.clip_id, clip.narration) for clip in found.clips] == [
        ("kitchen/0007", ""),
        ("kitchen/stir the pan", "stir the pan"),
        ("open_drawer-02", "open drawer"),
    ]
    assert {(clip.start_s, clip.stop_s, clip.dataset) for clip in found.clips} == {
        (0.0, None, "folder")
    }
    assert found.clips[2].video_uri == "memory:///data/videos/open_drawer-02.mp4"
    (warning,) = found.warnings
    assert "1 of 3 videos get no narration" in warning and "kitchen/0007" in warning


def test_a_single_video_is_one_clip(videos: str) -> None:
    (clip,) = read(f"{videos}/kitchen/stir the pan.MOV").clips
    assert clip.clip_id == "stir the pan"
    assert clip.video_uri == "memory:///data/videos/kitchen/stir the pan.MOV"


@pytest.mark.parametrize(
    ("stem", "said"),
    [
        ("cut-the_bread", "cut the bread"),
        ("open.the.drawer", "open the drawer"),
        ("stir12", "stir"),
        ("open_drawer-2", "open drawer"),
        ("open drawer (2)", "open drawer"),
        ("open_drawer12_1", "open drawer"),
        ("rip_mp3", "rip mp3"),
        ("open_drawer_2024-01-31", "open drawer"),
        ("add_2_eggs_1", "add 2 eggs"),
        ("P01_11_pour_h2o", "P01 11 pour h2o"),
        ("couper l'oignon", "couper l'oignon"),
        ("切る_3", "切る"),
    ],
)
def test_a_file_name_becomes_words(stem: str, said: str) -> None:
    assert words(stem) == said


@pytest.mark.parametrize(
    "stem",
    ["GH010123", "GX010123", "GOPR0001", "IMG_1234", "IMG_E1234", "DSC00012", "MVI_0042", "C0001"]
    + ["DJI_0042", "VID_20240101_123456", "PXL_20240101_123456789", "PXL_20240101_123456789.TS"]
    + ["VID-20240101-WA0001", "WhatsApp Video 2024-01-01 at 12.00.00", "20240101_120000"]
    + ["P01_01", "P01_101", "12", "0007", "clip_0012", "video (3)", "---"]
    + ["550e8400-e29b-41d4-a716-446655440000", "deadbeef-dead-beef-dead-444444444444"]
    + ["d41d8cd98f00b204e9800998ecf8427e", "deadbeef12"],
)
def test_a_file_name_that_tells_of_no_action_is_no_narration(stem: str) -> None:
    assert words(stem) == ""


def test_the_clips_that_ship_are_narrated_by_their_names_as_by_their_captions() -> None:
    captions = {clip.clip_id: clip.narration for clip in read(str(CLIPS)).clips}
    assert captions and {name: words(name) for name in captions} == captions


def test_two_videos_of_one_name_give_one_clip_and_a_problem(store: Store, videos: str) -> None:
    store("videos/open_drawer-02.avi", b"")
    found = read(videos)
    assert len(found.clips) == 3
    (problem,) = found.problems
    assert (problem.clip_id, problem.error_type) == ("open_drawer-02.mp4", "DuplicateClip")
    assert problem.video_uri == "memory:///data/videos/open_drawer-02.mp4"


def test_a_file_name_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    try:
        open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4"), "wb").close()
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    found = read(str(tmp_path))
    assert not found.clips
    assert [problem.clip_id for problem in found.problems] == ["caf?.mp4"]


def test_captions_say_what_the_clips_are(store: Store, videos: str) -> None:
    url = store(
        "captions.csv",
        "video,narration,start_s,stop_s,verb,noun,verb_class,noun_class,split,participant,clip_id\n"
        "kitchen/0007.mkv,stir the pan,1.5,3,stir,pan,9,,val,Ann,c1\n"
        "./kitchen/0007.mkv,,,,,,,,,,\n"
        "open_drawer-02.mp4,open the drawer,,,,,,,,,\n",
    )
    found = read(videos, url)
    clip, other = found.clips
    assert (clip.clip_id, clip.split, clip.participant) == ("c1", "validation", "Ann")
    assert (clip.start_s, clip.stop_s) == (1.5, 3.0)
    assert (clip.verb, clip.noun, clip.verb_class, clip.noun_class) == ("stir", "pan", 9, None)
    assert clip.video_uri == "memory:///data/videos/kitchen/0007.mkv"
    assert (other.clip_id, other.start_s, other.stop_s) == ("open_drawer-02", 0.0, None)
    assert [problem.clip_id for problem in found.problems] == ["captions.csv:3"]
    assert "narration is missing" in found.problems[0].message


def test_several_captions_of_one_video_are_numbered(store: Store, videos: str) -> None:
    rows = ["video,narration", "kitchen/0007.mkv,stir", "./kitchen/0007.mkv,taste", "b.mp4,cut"]
    found = read(videos, store("c.csv", "\n".join(rows)))
    assert [clip.clip_id for clip in found.clips] == ["kitchen/0007#0", "kitchen/0007#1", "b"]


def test_a_caption_of_a_missing_video_is_still_a_clip(store: Store, videos: str) -> None:
    (clip,) = read(videos, store("c.csv", "video,narration\ngone.mp4,cut\n")).clips
    assert clip.video_uri == "memory:///data/videos/gone.mp4"


def test_a_caption_may_name_its_video_by_url(store: Store, videos: str) -> None:
    rows = [
        {"video": "s3://bucket/day1/a.mp4", "narration": "cut"},
        {"video": "memory:///data/videos/kitchen/0007.mkv", "narration": "stir"},
        {"video": "/mnt/b.mp4", "narration": "pour", "stop_s": 2, "verb": None},
    ]
    found = read(videos, store("c.jsonl", "\n".join(map(json.dumps, rows))))
    assert [(clip.clip_id, clip.video_uri) for clip in found.clips] == [
        ("bucket/day1/a", "s3://bucket/day1/a.mp4"),
        ("kitchen/0007", "memory:///data/videos/kitchen/0007.mkv"),
        ("mnt/b", "file:///mnt/b.mp4"),
    ]


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl"])
def test_captions_beside_the_videos_are_found(store: Store, videos: str, name: str) -> None:
    row = '{"video": "a.mp4", "narration": "cut"}'
    store(f"videos/{name}", row if name.endswith("l") else "video,narration\na.mp4,cut\n")
    (clip,) = read(videos).clips
    assert (clip.clip_id, clip.narration) == ("a", "cut")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ('{"video": "a.mp4"}', "narration is missing"),
        ('{"video": 5, "narration": "cut"}', "video is 5"),
        ('{"video": "a.mp4", "narration": "cut", "start_s": -1}', "start_s is -1"),
        ('{"video": "a.mp4", "narration": "cut", "stop_s": "x"}', "stop_s is 'x'"),
        ('{"video": "a.mp4", "narration": "cut", "stop_s": NaN}', "stop_s is nan"),
        ('{"video": "a.mp4", "narration": "cut", "stop_s": 1, "start_s": 2}', "stop_s (1.0 s)"),
        ('{"video": "a.mp4", "narration": "cut", "verb_class": 1.5}', "verb_class is 1.5"),
        ('{"video": "a.mp4", "narration": "cut", "verb_class": 2147483648}', "verb_class is 21"),
        ('{"video": "a.mp4", "narration": "cut", "start_s": Infinity}', "start_s is inf"),
        ('{"video": "a.mp4", "narration": "cut", "start_s": true}', "start_s is True"),
        (f'{{"video": "a.mp4", "narration": "cut", "stop_s": {10**400}}}', "stop_s is 1000"),
        ('{"video": "a.mp4", "narration": "cut", "stop_s": "1:75"}', "MM:SS or HH:MM:SS.sss"),
        ('{"video": "a.mp4", "narration": "cut", "stop_s": "1,500"}', "write a point in place"),
        ('{"video": "a.mp4", "narration": "cut", "clip_id": "a\\nb"}', "without line breaks"),
        ('{"video": "a.mp4", "narration": "\\u0007"}', "expected words"),
        ('{"video": "a.mp4", "narration": "cut", "split": "dev"}', "split is 'dev'"),
        ('{"video": "a.mp4", "narration": "\\ud800"}', "narration is '\\ud800'"),
        ('["a.mp4"]', "expected an object"),
        ('{"video": ', "not JSON"),
    ],
)
def test_a_malformed_caption_stops_nothing(store: Store, videos: str, row: str, told: str) -> None:
    good = '{"video": "b.mp4", "narration": "stir"}'
    found = read(videos, store("c.jsonl", f"{good}\n\n{row}\n"))
    assert [clip.clip_id for clip in found.clips] == ["b"]
    (problem,) = found.problems
    assert (problem.clip_id, problem.error_type) == ("c.jsonl:3", "MalformedRow")
    assert told in problem.message


def test_what_concerns_the_whole_job_is_one_error(store: Store, videos: str, memory: str) -> None:
    for url, told in [
        (store("a.csv", "video,narations\n"), "did you mean narration by narations?"),
        (store("b.csv", "file;Text\n"), "did you mean video by file? did you mean narration by Te"),
        (store("c.csv", "video,verb\n"), "c.csv: no column narration"),
        (store("d.txt", ""), "expected a .csv or a .jsonl file"),
        (store("d.xlsx", b"PK\x03\x04"), "d.xlsx: .* save the workbook as CSV in UTF-8"),
        (store("d.json", "[]"), "d.json: .* write one object a line"),
        (store("e.jsonl", '[{"video": "a.mp4"}]'), "e.jsonl: a JSON array"),
        (f"{memory}/none.csv", "no such file"),
    ]:
        with pytest.raises(AnnotationsError, match=told.replace("?", r"\?")):
            read(videos, url)
    store("videos/captions.csv", "")
    store("videos/captions.jsonl", "")
    with pytest.raises(AnnotationsError, match=r"both captions\.csv and captions\.jsonl"):
        read(videos)


def test_columns_that_are_unknown_are_warned_about_once_and_ignored(
    store: Store, videos: str
) -> None:
    csv = "video,narration,comment,start,end,\na.mp4,cut,blurred,1,2,\nb.mp4,stir,,1,2,\n"
    jsonl = (
        '{"video": "a.mp4", "narration": "cut"}\n{"video": "b.mp4", "narration": "stir", "x": 1}'
    )
    for url, unknown in [
        (
            store("c.csv", csv),
            "comment, start (did you mean start_s?), end (did you mean stop_s?), without a name",
        ),
        (store("c.jsonl", jsonl), "x"),
    ]:
        found = read(videos, url)
        assert [(clip.narration, clip.stop_s) for clip in found.clips] == [
            ("cut", None),
            ("stir", None),
        ]
        (warning,) = found.warnings
        assert warning.startswith(f"{url}: unknown column {unknown} is ignored; known are video,")


def test_captions_of_a_spreadsheet_are_read(store: Store, videos: str) -> None:
    text = (
        "video;narration;start_s;stop_s\r\n"
        'a.mp4;"cut\r\nbread";1,5;00:01:02,25\r\nb.mp4;stir;1:30;2.5e2\r\n'
    )
    for data in (text.encode("utf-8-sig"), text.replace(";", "\t").encode("utf-16")):
        found = read(videos, store("c.csv", data))
        assert not found.problems and not found.warnings
        assert [(clip.narration, clip.start_s, clip.stop_s) for clip in found.clips] == [
            ("cut bread", 1.5, 62.25),
            ("stir", 90.0, 250.0),
        ]


def test_captions_may_be_compressed(store: Store, videos: str) -> None:
    url = store("c.csv.gz", gzip.compress(b"video,narration\na.mp4,cut\n"))
    assert [clip.narration for clip in read(videos, url).clips] == ["cut"]


entry = st.fixed_dictionaries(
    {},
    optional={
        "video": st.sampled_from(["a.mp4", "./a.mp4", "b.mp4", "a#1.mp4", "", "/c.mp4", 3]),
        "narration": st.sampled_from(["cut", "", None]),
        "start_s": st.sampled_from([0, 1.5, "2", "x", None]),
        "stop_s": st.floats() | st.none(),
        "clip_id": st.sampled_from(["a", "b#0", ""]),
    },
)


@given(st.lists(entry, max_size=12))
def test_every_caption_is_a_clip_or_a_problem(rows: list[dict[str, object]]) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/property/a.mp4", b"")
    fs.pipe_file("/property/list.jsonl", "\n".join(map(json.dumps, rows)).encode())
    found = read("memory://property", "memory://property/list.jsonl")
    assert len(found.clips) + len(found.problems) == len(rows)
    assert len({clip.clip_id for clip in found.clips}) == len(found.clips)
    assert all(clip.clip_id and clip.narration for clip in found.clips)
