"""Ego4D: actions and narrations, streamed, with the wearer's hands only."""

from __future__ import annotations

import json
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.annotations import AnnotationsError
from pipelines.annotations.ego4d import read
from pipelines.annotations.ego4d_text import instruction, is_of_other_person
from tests.pipelines.annotations.conftest import Store


def action(**change: Any) -> dict[str, Any]:
    return {
        "uid": "act",
        "start_sec": 4.0,
        "end_sec": 12.0,
        "is_valid_action": True,
        "narration_text": "#C C picks up the cup",
        "structured_verb": "take_(pick,_grab,_get)",
        "freeform_verb": "lifts",
        "critical_frames": {"pre_45": 135, "pre_frame": 180, "pnr_frame": 210, "post_frame": 240},
        "is_rejected": False,
        "is_invalid_annotation": False,
    } | change


def fho(*videos: list[list[dict[str, Any]]], fps: float = 30.0) -> str:
    """fho_main.json: a list of intervals a video, a list of actions an interval."""
    return json.dumps(
        {
            "version": "2.1",
            "videos": [
                {
                    "annotated_intervals": [{"narrated_actions": acts} for acts in intervals],
                    "video_metadata": {"fps": fps},
                    "video_uid": f"v{n}",
                }
                for n, intervals in enumerate(videos)
            ],
        }
    )


def narration(*passes: tuple[str, dict[str, Any]], wrapped: bool = False) -> str:
    """narration.json: by video, by pass, (seconds, text)."""
    videos = {
        uid: {
            key: {
                "narrations": [
                    {"timestamp_sec": item[0], "narration_text": item[1]} for item in items
                ]
            }
            for key, items in by_pass.items()
        }
        for uid, by_pass in passes
    }
    return json.dumps({"version": "2", "videos": videos} if wrapped else videos)


METADATA = {
    "videos": [
        {
            "video_uid": "v0",
            "duration_sec": 100.0,
            "split_fho": "train",
            "fb_participant_id": 17,
            "video_metadata": {"fps": 60.0},
        },
        {"video_uid": "v1", "split_fho": "val"},
        {"video_uid": "v2", "split_fho": "multi"},
    ]
}


@pytest.fixture
def videos(store: Store, memory: str) -> str:
    store("v2/full_scale/v0.mp4", b"")
    return f"{memory}/v2"


def test_an_action_is_a_clip_between_its_critical_frames(store: Store, videos: str) -> None:
    store("v2/ego4d.json", json.dumps(METADATA))
    store("v2/annotations/fho_main.json", fho([[action()]]))
    found = read(f"{videos}/annotations", videos)
    assert not found.problems
    (clip,) = found.clips
    assert (clip.clip_id, clip.dataset, clip.split) == ("act", "ego4d", "train")
    assert (clip.start_s, clip.stop_s) == (6.0, 8.0)
    assert (clip.narration, clip.verb, clip.noun) == (
        "picks up the cup",
        "take_(pick,_grab,_get)",
        "",
    )
    assert clip.participant == "17"
    assert clip.video_uri == "memory:///data/v2/full_scale/v0.mp4"


@pytest.mark.parametrize("frames", [None, {"pre_frame": 180}, {"pre_45": 3, "post_frame": None}])
def test_without_critical_frames_the_action_is_the_stretch(
    store: Store, videos: str, frames: dict[str, int] | None
) -> None:
    url = store("fho_main.json", fho([[action(critical_frames=frames)]]))
    (clip,) = read(url, videos).clips
    assert (clip.start_s, clip.stop_s) == (4.0, 12.0)


def test_the_span_may_be_the_whole_action(store: Store, videos: str) -> None:
    (clip,) = read(store("fho_main.json", fho([[action()]])), videos, span="action").clips
    assert (clip.start_s, clip.stop_s) == (4.0, 12.0)


def test_an_action_without_uid_or_structured_verb(store: Store, videos: str) -> None:
    acts = [action(), action(uid=None, structured_verb=None), action(uid=None, freeform_verb=None)]
    found = read(store("fho_main.json", fho([], [[], acts])), videos)
    assert [clip.clip_id for clip in found.clips] == ["act", "v1_1_1", "v1_1_2"]
    assert found.clips[1].verb == "lifts"
    assert found.clips[1].video_uri == "memory:///data/v2/v1.mp4"


def test_what_the_data_set_excludes_and_what_others_do_is_passed_over(
    store: Store, videos: str
) -> None:
    acts = [
        action(is_rejected=True, start_sec=None),
        action(is_invalid_annotation=True),
        action(is_valid_action=False),
        action(narration_text="#O man X waves"),
        action(uid="mine"),
    ]
    found = read(store("fho_main.json", fho([acts])), videos)
    assert [clip.clip_id for clip in found.clips] == ["mine"]
    assert not found.problems


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (action(start_sec="soon"), "start_sec is 'soon'"),
        (action(critical_frames=None, end_sec=3), "the stop (3.000 s) must be after the start (4"),
        (action(critical_frames={"pre_frame": -3, "post_frame": 5}), "pre_frame is -3"),
        (action(narration_text=None), "narration_text is None"),
        (action(narration_text="#C C "), "narration_text is '#C C '"),
        ("no object", "should be a valid dictionary"),
        (action(uid="first"), "clip id 'first' was taken at fho_main.json:videos[0]"),
    ],
)
def test_a_malformed_action_is_told_with_its_path(
    store: Store, videos: str, bad: Any, told: str
) -> None:
    found = read(store("fho_main.json", fho([[action(uid="first")], [action(), bad]])), videos)
    assert [clip.clip_id for clip in found.clips] == ["first", "act"]
    (problem,) = found.problems
    assert problem.clip_id == "fho_main.json:videos[0].annotated_intervals[1].narrated_actions[1]"
    assert told in problem.message


def test_malformed_videos_and_intervals_stop_nothing(store: Store, videos: str) -> None:
    table = json.loads(fho([[action()]]))
    table["videos"] = [3, {"video_uid": "x", "annotated_intervals": [None]}, *table["videos"]]
    found = read(store("fho_main.json", json.dumps(table)), videos)
    assert len(found.clips) == 1
    assert [problem.clip_id for problem in found.problems] == [
        "fho_main.json:videos[0]",
        "fho_main.json:videos[1].annotated_intervals[0]",
    ]


@pytest.mark.parametrize(("split", "ids"), [("train", ["a"]), ("val", ["b"]), ("test", [])])
def test_the_split_is_that_of_the_video(
    store: Store, videos: str, split: str, ids: list[str]
) -> None:
    store("ego4d.json", json.dumps(METADATA))
    table = fho(*[[[action(uid=uid)]] for uid in "abc"])
    url = store("fho_main.json", table)
    assert [clip.clip_id for clip in read(url, videos, split).clips] == ids
    assert [clip.split for clip in read(url, videos).clips] == ["train", "validation", ""]


def test_a_frame_rate_is_taken_from_ego4d_json_where_the_action_file_has_none(
    store: Store, videos: str
) -> None:
    store("ego4d.json", json.dumps(METADATA))
    table = json.loads(fho([[action()]]))
    table["videos"][0]["video_metadata"] = None
    (clip,) = read(store("fho_main.json", json.dumps(table)), videos).clips
    assert (clip.start_s, clip.stop_s) == (3.0, 4.0)


def test_a_malformed_video_of_ego4d_json_is_a_problem(store: Store, videos: str) -> None:
    store("ego4d.json", json.dumps({"videos": [*METADATA["videos"], {"video_uid": 4}]}))
    found = read(store("fho_main.json", fho([[action()]])), videos)
    assert [problem.clip_id for problem in found.problems] == ["ego4d.json:videos[3]"]
    assert found.clips[0].split == "train"


def test_a_video_that_ego4d_json_describes_twice_or_wrongly_is_a_problem(
    store: Store, videos: str
) -> None:
    again = [{"video_uid": "v0", "split_fho": "val"}, {"video_uid": "v3", "duration_sec": -1}]
    store("ego4d.json", json.dumps({"videos": [*METADATA["videos"], *again]}))
    found = read(store("fho_main.json", fho([[action()]])), videos)
    assert [clip.split for clip in found.clips] == ["train"]
    assert [problem.message for problem in found.problems] == [
        "ego4d.json:videos[3]: video_uid 'v0' was described before",
        "ego4d.json:videos[4]: duration_sec is -1 (Input should be greater than 0)",
    ]


@pytest.mark.parametrize("text", ["[]", '{"videos": {}}', "5"])
def test_an_ego4d_json_without_videos_is_one_error(store: Store, videos: str, text: str) -> None:
    url = store("ego4d.json", text)
    with pytest.raises(AnnotationsError, match=r"ego4d\.json: no videos, expected the layout") as e:
        read(store("fho_main.json", fho([[action()]])), videos)
    assert url.rpartition("/")[2] in str(e.value)


def test_text_of_an_action_is_one_line_without_control_characters(
    store: Store, videos: str
) -> None:
    odd = action(uid="a\nb", narration_text="#C C cuts\n\x07the  bread")
    (clip,) = read(store("fho_main.json", fho([[odd]])), videos).clips
    assert (clip.clip_id, clip.narration) == ("a b", "cuts the bread")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"videos": [{"video_uid": NaN}]}', r"invalid char in json text\. at .*NaN"),
        (b'{"videos": ["\xff"]}', "invalid bytes in UTF8 string"),
        ('{"videos": []}'.encode("utf-16"), "UTF-16, expected UTF-8"),
        (b"PK\x03\x04", "an Excel workbook or another ZIP file"),
        (b"", "premature EOF; download it again"),
    ],
)
def test_what_is_no_json_is_one_line_that_shows_where(
    store: Store, videos: str, data: bytes, told: str
) -> None:
    with pytest.raises(
        AnnotationsError, match=rf"^memory://data/fho_main\.json: .*{told}"
    ) as error:
        read(store("fho_main.json", data), videos)
    assert "\n" not in str(error.value) and "b'" not in str(error.value)


def test_a_byte_order_mark_before_the_json_is_passed_over(store: Store, videos: str) -> None:
    url = store("fho_main.json", fho([[action()]]).encode("utf-8-sig"))
    assert len(read(url, videos).clips) == 1


def test_what_concerns_the_whole_job_is_one_error(store: Store, videos: str, memory: str) -> None:
    whole = fho([[action()]])
    for url, told in [
        (store("cut/fho_main.json", whole[: len(whole) // 2]), "fho_main.json: not JSON, or cut"),
        (store("text/fho_main.json", "videos"), "fho_main.json: not JSON"),
        (store("empty/fho_main.json", ""), "fho_main.json: not JSON"),
        (store("other/fho_main.json", '{"clips": []}'), "no videos"),
        (f"{memory}/none", "nor a folder with fho_main.json"),
    ]:
        with pytest.raises(AnnotationsError, match=told) as raised:
            read(url, videos)
        assert "\n" not in str(raised.value)
    with pytest.raises(AnnotationsError, match=r"split train needs ego4d\.json"):
        read(store("fho_main.json", whole), videos, "train")
    with pytest.raises(AnnotationsError, match="expected train, validation or test"):
        read(store("fho_main.json", whole), videos, "dev")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#C C picks up the cup", "picks up the cup"),
        ("#c c  cuts  bread ", "cuts bread"),
        ("#C cuts bread", "cuts bread"),
        ("#CC cuts bread", "cuts bread"),
        ("#Unsure C cuts bread", "cuts bread"),
        ("#unsure", ""),
        ("#C C picks #unsure from the table", "picks something from the table"),
        ("C walks", "C walks"),
    ],
)
def test_a_narration_reads_as_an_instruction(text: str, said: str) -> None:
    assert instruction(text) == said
    assert not is_of_other_person(text)


def test_a_narration_of_another_person_is_known_by_its_tag() -> None:
    assert is_of_other_person("#O A man X waves") and is_of_other_person(" #o lady")
    assert not is_of_other_person("#C C opens the oven")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_narration_gets_a_stretch_by_the_density_of_its_video(
    store: Store, videos: str, wrapped: bool
) -> None:
    """beta is 2 s and 6 s, so alpha is 4 s and the stretches are 0.5 s and 1.5 s long."""
    table = narration(
        ("v0", {"narration_pass_1": [(0.1, "#C C cuts"), (4.1, "#C C eats"), (2.0, "#O x")]}),
        ("v1", {"narration_pass_2": [(10, "#C C stirs"), (16, "#C C pours")]}),
        wrapped=wrapped,
    )
    found = read(store("narration.json", table), videos, kind="narrations")
    assert not found.problems
    told = [(clip.clip_id, clip.narration, clip.start_s, clip.stop_s) for clip in found.clips]
    assert told == [
        ("v0_narration_pass_1_0", "cuts", 0.0, pytest.approx(0.35)),
        ("v0_narration_pass_1_1", "eats", pytest.approx(3.85), pytest.approx(4.35)),
        ("v1_narration_pass_2_0", "stirs", 9.25, 10.75),
        ("v1_narration_pass_2_1", "pours", 15.25, 16.75),
    ]


def test_the_videos_may_stand_behind_other_keys(store: Store, videos: str) -> None:
    table = {"changes": [{"by": "us"}], **json.loads(narration(wrapped=True))}
    table["videos"] = json.loads(narration(("v0", {"narration_pass_1": [(5, "#C C cuts")]})))
    found = read(store("narration.json", json.dumps(table)), videos, kind="narrations")
    assert [clip.narration for clip in found.clips] == ["cuts"] and not found.problems


def test_a_video_narrated_twice_gives_its_first_pass(store: Store, videos: str) -> None:
    both = {"narration_pass_1": [(5, "#C C cuts")], "narration_pass_2": [(5, "#C C slices")]}
    (clip,) = read(
        store("narration.json", narration(("v0", both))), videos, kind="narrations"
    ).clips
    assert (clip.narration, clip.start_s, clip.stop_s) == ("cuts", 4.5, 5.5)


def test_a_stretch_is_cut_off_where_the_video_begins_and_ends(store: Store, videos: str) -> None:
    store("ego4d.json", json.dumps(METADATA))
    times = [0.1, 99.8, 100.2, -0.1]
    items = {"narration_pass_1": [(time_s, "#C C cuts") for time_s in times]}
    beside = {"narration_pass_1": [(0, "#C C stirs"), (1, "#C C stirs")]}
    url = store("narration.json", narration(("v0", items), ("v1", beside)))
    found = read(url, videos, kind="narrations")
    first, last, *others = found.clips
    assert (first.start_s, last.stop_s) == (0.0, 100.0)
    assert [clip.timestamp_s for clip in [first, last, *others]] == [0.1, 99.8, 0.0, 1.0]
    assert [problem.message for problem in found.problems] == [
        f"narration.json:v0.narration_pass_1.narrations[{n}]: timestamp_sec is {time_s}, outside "
        "the video (0 to 100.0 s)"
        for n, time_s in [(2, 100.2), (3, -0.1)]
    ]


def test_the_stretches_do_not_hang_on_the_split(store: Store, videos: str, memory: str) -> None:
    store("ego4d.json", json.dumps(METADATA))
    items = [[(1, "#C C a"), (3, "#C C b")], [(1, "#C C c"), (7, "#C C d"), (9, None)]]
    passes: list[tuple[str, dict[str, Any]]] = [
        (f"v{n}", {"narration_pass_1": item}) for n, item in enumerate(items)
    ]
    store("narration.json", narration(*passes))
    every = read(memory, videos, kind="narrations")
    train = read(memory, videos, "train", kind="narrations")
    assert train.clips == every.clips[:2]
    assert (len(every.problems), len(train.problems)) == (1, 0)


def test_a_malformed_narration_is_told_with_its_path(store: Store, videos: str) -> None:
    store("ego4d.json", json.dumps(METADATA))
    items = [(1, "#C C cuts"), ("late", "#C C cuts"), (2, None), (3, "#C C"), (200, "#C C eats")]
    table = json.loads(narration(("v0", {"narration_pass_1": items})))
    table |= {"v1": None, "v2": {"narration_pass_1": {"narrations": None}}}
    url = store("narration.json", json.dumps(table))
    found = read(url, videos, kind="narrations")
    assert len(found.clips) == 1
    places = {problem.clip_id: problem.message for problem in found.problems}
    path = "narration.json:v0.narration_pass_1.narrations"
    assert list(places) == [
        f"{path}[1]",
        f"{path}[2]",
        "narration.json:v1",
        "narration.json:v2.narration_pass_1.narrations",
        f"{path}[3]",
        f"{path}[4]",
    ]
    assert "outside the video (0 to 100.0 s)" in places[f"{path}[4]"]


def test_a_narration_file_that_is_cut_off_is_one_error(store: Store, videos: str) -> None:
    table = narration(("v0", {"narration_pass_1": [(5, "#C C cuts")]}))
    for text, told in [(table[:-5], "cut off"), ("{}", "no videos"), (fho([[action()]]), "no vid")]:
        with pytest.raises(AnnotationsError, match=told):
            read(store("narration.json", text), videos, kind="narrations")


value = st.none() | st.integers(-5, 20) | st.sampled_from(["", "a", "#C C cuts", 2.5, [], {}])
changed = st.dictionaries(
    st.sampled_from(["uid", "start_sec", "end_sec", "narration_text", "critical_frames"]), value
).map(lambda change: action(**change))


@given(st.lists(st.lists(changed | value, max_size=4), max_size=4))
def test_every_action_is_a_clip_or_a_problem(intervals: list[list[Any]]) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/property/fho_main.json", fho(intervals).encode())
    found = read("memory://property/fho_main.json", "memory://property")
    assert len(found.clips) + len(found.problems) == sum(map(len, intervals))
    assert len({clip.clip_id for clip in found.clips}) == len(found.clips)
    assert all(0 <= clip.start_s < clip.stop_s for clip in found.clips if clip.stop_s)
