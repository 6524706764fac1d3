import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clip_index import ClipIndex
from pipelines.clip_rows import reference
from pipelines.dataset import write_table
from pipelines.evaluation.clips import EvaluationSet, read_evaluation_set, real_clip
from pipelines.parquet_rows import Place
from pipelines.records import WRITTEN
from pipelines.training_clips import DatasetError
from tests.datasets import rendered_dataset


def write(data: Path, *clips: dict) -> str:
    """A data set whose pictures are none: nothing here may look at them."""
    rows = [
        dict.fromkeys(WRITTEN.names)
        | {
            "dataset": "folder",
            "split": "test",
            "narration": f"lift {clip['clip_id']}",
            "frames": [b"no picture"] * 3,
            "hand_detected": [[True, False]] * 3,
            "mask_area": 0.1,
            "height": 32,
            "width": 32,
        }
        | clip
        for clip in clips
    ]
    write_table(pa.Table.from_pylist(rows, WRITTEN), f"{data}/clips")
    return str(data)


def of(*splits: str | None) -> list[dict]:
    return [{"clip_id": f"c{i:03}", "split": split} for i, split in enumerate(splits)]


def evaluation_set(datasets: list[str], areas: list[float]) -> EvaluationSet:
    ids = [f"c{i:04}" for i in range(len(areas))]
    places = [Place("", 0, 0)] * len(ids)
    index = ClipIndex("data", ids, ids, [""] * len(ids), places, 32, 32, 16, "", ids)
    return EvaluationSet(index, datasets, np.array(areas), "test")


# Which clips


@pytest.mark.parametrize(
    ("splits", "chosen", "split"),
    [
        (["train", "test", "validation", "test"], ["c001", "c003"], "test"),
        (["train", "validation", "train"], ["c001"], "validation"),
        (["train", None, "train"], ["c000", "c001", "c002"], ""),
        ([None, None], ["c000", "c001"], ""),
        ([None, "test"], ["c001"], "test"),
    ],
)
def test_test_clips_are_taken_else_validation_clips_else_all(tmp_path, splits, chosen, split):
    found = read_evaluation_set(write(tmp_path, *of(*splits)), None, None)
    assert found.index.clip_ids == chosen
    assert found.split == split
    assert len(found) == len(chosen)


def test_each_source_gives_the_split_that_it_has(tmp_path):
    """EPIC-KITCHENS' test annotations are not published: its validation clips are taken."""
    rows = of("train", "validation", "test", "validation")
    for row, dataset in zip(rows, ["epic-kitchens"] * 2 + ["ego4d"] * 2, strict=True):
        row["dataset"] = dataset
    found = read_evaluation_set(write(tmp_path, *rows), None, None)
    assert found.index.clip_ids == ["c001", "c002"]
    assert found.split == "test, validation"


def test_clips_are_played_at_the_rate_of_those_evaluated_unless_asked(tmp_path):
    rows = of("train", "test")
    rows[0]["frame_times_s"], rows[1]["frame_times_s"] = [0.0, 9.0], [0.0, 0.25]
    data = write(tmp_path, *rows)
    assert read_evaluation_set(data, None, None).fps == 4
    assert read_evaluation_set(data, None, None, 12).fps == 12


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_clips_were_made_square_as_their_preprocessing_says(tmp_path, fit):
    data = write(tmp_path, *of("test"))
    assert read_evaluation_set(data, None, None).fit == "crop"
    (tmp_path / "settings.json").write_text(json.dumps({"fit": fit}))
    assert read_evaluation_set(data, None, None).fit == fit


def test_a_split_that_is_named_is_taken(tmp_path):
    data = write(tmp_path, *of("train", "test", "train"))
    found = read_evaluation_set(data, "train", None)
    assert (found.index.clip_ids, found.split) == (["c000", "c002"], "train")


@pytest.mark.parametrize(("splits", "has"), [(["train", "test"], "test, train"), ([None], "none")])
def test_a_split_without_clips_is_one_line_that_lists_those_there_are(tmp_path, splits, has):
    with pytest.raises(DatasetError, match=f"its splits are: {has}$") as refused:
        read_evaluation_set(write(tmp_path, *of(*splits)), "tset", None)
    assert "'tset'" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_no_data_set_is_one_line(tmp_path):
    with pytest.raises(DatasetError, match="holds no clips") as refused:
        read_evaluation_set(str(tmp_path), None, None)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [
        (1, [0]),
        (2, [0, 10]),
        (3, [0, 5, 10]),
        (6, [0, 2, 4, 6, 8, 10]),
        (11, range(11)),
        (99, range(11)),
    ],
)
def test_a_limit_takes_so_many_evenly_spread(tmp_path, limit, chosen):
    found = read_evaluation_set(write(tmp_path, *of(*["test"] * 11)), None, limit)
    assert found.index.clip_ids == [f"c{i:03}" for i in chosen]


def test_a_limit_counts_the_clips_of_the_split(tmp_path):
    data = write(tmp_path, *of("train", "test", "train", "test", "test", "train"))
    assert read_evaluation_set(data, None, 2).index.clip_ids == ["c001", "c004"]


def test_each_clip_keeps_what_is_its_own(tmp_path):
    """Across files, by clip id: rows of two tables lie in another order than the clips."""
    write(
        tmp_path,
        {"clip_id": "d", "dataset": "ego4d", "mask_area": 0.4, "narration": "wash a pan"},
        {"clip_id": "a", "dataset": "epic-kitchens", "mask_area": 0.1, "narration": "open a lid"},
    )
    data = write(
        tmp_path,
        {"clip_id": "c", "dataset": "ego4d", "mask_area": 0.3, "split": "train"},
        {"clip_id": "b", "dataset": "epic-kitchens", "mask_area": 0.2, "narration": "cut a leek"},
    )
    found = read_evaluation_set(data, None, None)
    assert found.index.clip_ids == ["a", "b", "d"]
    assert found.index.narrations == ["open a lid", "cut a leek", "wash a pan"]
    assert found.index.splits == ["test"] * 3
    assert found.datasets == ["epic-kitchens", "epic-kitchens", "ego4d"]
    np.testing.assert_allclose(found.mask_areas, [0.1, 0.2, 0.4])


# Subsets


def test_of_one_data_set_there_is_a_table_of_it_and_one_of_the_motion_intensive():
    found = evaluation_set(["folder"] * 3, [0.1, 0.3, 0.2]).subsets()
    assert found == {"folder": [0, 1, 2], "motion-intensive": [1]}
    assert list(found) == ["folder", "motion-intensive"]


def test_of_more_there_is_one_of_each_and_one_of_all():
    found = evaluation_set(["ego4d", "epic-kitchens", "ego4d"], [0.1, 0.3, 0.2]).subsets()
    assert list(found) == ["ego4d", "epic-kitchens", "all", "motion-intensive"]
    assert found == {
        "ego4d": [0, 2],
        "epic-kitchens": [1],
        "all": [0, 1, 2],
        "motion-intensive": [1],
    }


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80))
def test_motion_intensive_is_the_tenth_with_the_largest_masks(levels):
    """Rounded up; of equal ones the first by clip id."""
    found = evaluation_set(["folder"] * len(levels), [level / 10 for level in levels]).subsets()
    most = found["motion-intensive"]
    assert len(most) == (len(levels) + 9) // 10
    assert most == sorted(set(most))
    rest = set(range(len(levels))) - set(most)
    for clip in most:
        for other in rest:
            assert (levels[clip], -clip) > (levels[other], -other)


@pytest.mark.parametrize("count", [1, 9, 10, 11, 30, 70, 100, 8900, 8901])
def test_a_tenth_is_rounded_up_and_no_further(count):
    found = evaluation_set(["folder"] * count, list(np.linspace(0, 1, count))).subsets()
    assert found["motion-intensive"] == list(range(count - math.ceil(count / 10), count))


def test_the_tenth_is_that_of_all_data_sets_together():
    areas = [0.1] * 10 + [0.5] * 10
    found = evaluation_set(["ego4d"] * 10 + ["epic-kitchens"] * 10, areas).subsets()
    assert found["motion-intensive"] == [10, 11]


# The clip


def test_a_real_clip_holds_its_frames_and_the_union_of_its_masks(tmp_path):
    data = rendered_dataset(tmp_path, ["lift_box_1", "open_lid_1"])
    found = read_evaluation_set(data, None, None)
    clip = real_clip(reference(found.index, 1, None))
    assert (clip.clip_id, clip.narration) == ("open_lid_1", "open lid")
    assert clip.frames.shape == (4, 64, 64, 3) and clip.frames.dtype == np.uint8
    assert clip.mask.shape == (64, 64) and clip.mask.dtype == bool
    assert clip.mask.mean() == pytest.approx(found.mask_areas[1])
    assert len({frame.tobytes() for frame in clip.frames}) == 4
