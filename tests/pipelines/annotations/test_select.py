"""Which clips a job works on: by key, and by LEGO's lists."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.annotations import AnnotationsError, lego
from pipelines.annotations.select import select
from pipelines.records import Clip
from tests.pipelines.annotations.conftest import Store


def clip(clip_id: str, verb: str = "", noun: str = "", who: str = "", split: str = "") -> Clip:
    return Clip(clip_id, "x", split, "", 0, 1, "", verb=verb, noun=noun, participant=who)


CLIPS = [
    clip("a", "open", "door", "P01", "train"),
    clip("b", "turn-on", "tap:water", "P02", "train"),
    clip("c", "Open", "tap", "P01", "validation"),
    clip("d", "open", "taper", "P02", "validation"),
]


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ({}, "abcd"),
        ({"verb": ["OPEN"]}, "acd"),
        ({"verb": ["open", "turn-on"], "participant": {"p02"}}, "bd"),
        ({"verb": ["turn"]}, ""),
        ({"noun": ["tap"]}, "bc"),
        ({"noun": ["tap:water"]}, "b"),
        ({"noun": "door"}, "a"),
        ({"split": ["train"]}, "ab"),
        ({"split": "validation", "verb": ()}, "cd"),
        ({"verb": ["open"], "limit": 2}, "ac"),
        ({"limit": 0}, ""),
        ({"limit": 9}, "abcd"),
    ],
)
def test_clips_that_fit_every_key_are_taken_in_order(keys: dict[str, Any], chosen: str) -> None:
    assert "".join(clip.clip_id for clip in select(CLIPS, **keys)) == chosen


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="limit is -1"):
        select(CLIPS, limit=-1)


def chosen_by(store: Store, lists: Any, ids: list[str]) -> list[str]:
    url = store("val.json", json.dumps(lists))
    return [clip.clip_id for clip in lego.select(map(clip, ids), url)]


ACTION = {"image_0": "0.jpg", "image_1": "1.jpg", "action": "open door"}


@pytest.mark.parametrize("ours", ["a7", "v1_a7", "v1/a7"])
def test_an_action_of_a_lego_list_is_known_by_its_ids(store: Store, ours: str) -> None:
    lists = {"v1": {"a7": ACTION, "a8": ACTION}}
    assert chosen_by(store, lists, ["other", ours, "v1"]) == [ours]


def test_a_lego_clip_with_one_action_is_known_by_the_clip_alone(store: Store) -> None:
    assert chosen_by(store, {"v1": {"a7": ACTION}, "v2": {}}, ["v2", "v1"]) == ["v1"]


def test_a_lego_selection_keeps_our_order_and_each_clip_once(store: Store) -> None:
    lists = {"P01_1": {"P01_1_0": ACTION, "P01_1_5": ACTION}}
    ids = ["P01_1_5", "P01_1_3", "P01_1_0", "P01_1_5"]
    assert chosen_by(store, lists, ids) == ["P01_1_5", "P01_1_0"]


@pytest.mark.parametrize("text", ['{"a": {"b"', "[]", '{"a": ["b"]}', ""])
def test_what_is_no_lego_list_is_one_error(store: Store, text: str) -> None:
    with pytest.raises(AnnotationsError, match=r"^memory://data/val\.json: [^\n]+$"):
        lego.select(CLIPS, store("val.json", text))


def test_a_missing_lego_list_is_one_error(memory: str) -> None:
    with pytest.raises(AnnotationsError, match="no such file"):
        lego.select(CLIPS, f"{memory}/val.json")
