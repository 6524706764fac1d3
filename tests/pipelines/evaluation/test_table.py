import math

import numpy as np
import pytest

from handi_model.baselines.method import Made
from handi_model.metrics.frechet import Gaussian, frechet_distance
from pipelines.evaluation.columns import COLUMNS
from pipelines.evaluation.figures import Scores, write_scores
from pipelines.evaluation.made_files import Cost, write_made
from pipelines.evaluation.table import Draws, efficiency, estimates, ranked, read_all
from pipelines.evaluation.views import SeenHands

DRAWS = Draws(means=30, distances=4, seed=0)
MEANS = [column for column in COLUMNS if column.features is None]
HANDS = SeenHands(np.zeros((4, 42, 2), np.float32), np.ones((4, 2), bool))
CLIPS = [f"c{i}" for i in range(8)]


def scores(seed: int, **changes: float) -> Scores:
    generator = np.random.default_rng(seed)
    features = {"inception": (4, 3), "i3d": (1, 2), "i3d_area": (1, 2)}
    return Scores(
        {column.key: float(generator.random()) for column in MEANS} | changes,
        {name: generator.normal(size=each).astype(np.float32) for name, each in features.items()},
        HANDS,
        "",
    )


def all_scores(first: int, clips: list[str] = CLIPS) -> dict[str, Scores]:
    return {clip: scores(first + int(clip[1:])) for clip in clips}


def table(made, real, clips=CLIPS):
    return dict(estimates(made, real, {"all": clips}, DRAWS))["all"]


def without(one: Scores, key: str) -> Scores:
    return Scores(
        {name: value for name, value in one.figures.items() if name != key},
        {name: value for name, value in one.features.items() if name != key},
        one.hands,
        one.caption,
    )


def frechet(made, real, name: str, clips: list[str]) -> float:
    rows = [np.concatenate([one[clip].features[name] for clip in clips]) for one in (made, real)]
    return frechet_distance(*map(Gaussian.of, rows))


def test_every_column_is_a_mean_over_clips_or_a_distance_of_all():
    made, real = all_scores(0), all_scores(100)
    found = table(made, real)
    assert list(found) == [column.key for column in COLUMNS]
    for column in COLUMNS:
        one = found[column.key]
        if column.features:
            expected = frechet(made, real, column.features, CLIPS)
        else:
            values = [made[clip].figures[column.key] for clip in CLIPS]
            expected = float(np.mean(values))
        assert one.value == pytest.approx(expected)
        assert one.low <= one.value <= one.high
        assert one.clips == 8


def test_clips_without_a_figure_are_left_out_of_its_mean_alone():
    made, real = all_scores(0), all_scores(100)
    whole = table(made, real)
    made["c2"] = scores(2, jerk=math.nan)
    found = table(made, real)
    values = [made[clip].figures["jerk"] for clip in CLIPS if clip != "c2"]
    assert found["jerk"].value == pytest.approx(np.mean(values))
    assert found["jerk"].clips == 7
    assert {key: found[key] for key in found if key != "jerk"} == {
        key: whole[key] for key in whole if key != "jerk"
    }


def test_a_figure_that_no_clip_has_is_nan():
    made = {clip: scores(i, mask_iou=math.nan) for i, clip in enumerate(CLIPS)}
    found = table(made, all_scores(100))["mask_iou"]
    assert math.isnan(found.value) and found.clips == 0


@pytest.mark.parametrize("key", ["clip_gt", "blip"])
def test_a_network_that_was_not_there_leaves_its_columns_out(key):
    made = {clip: without(one, key) for clip, one in all_scores(0).items()}
    assert set(table(made, all_scores(100))) == {c.key for c in COLUMNS} - {key}


@pytest.mark.parametrize("of_real", [True, False])
def test_without_features_on_either_side_there_is_no_distance(of_real):
    made, real = all_scores(0), all_scores(100)
    bare = {clip: without(one, "inception") for clip, one in (real if of_real else made).items()}
    found = table(made, bare) if of_real else table(bare, real)
    assert set(found) == {c.key for c in COLUMNS} - {"fid"}


def test_where_a_method_lacks_a_clip_the_real_one_is_left_out_too():
    made, real = all_scores(0, CLIPS[:5]), all_scores(100)
    found = table(made, real)
    assert found["fid"].value == pytest.approx(frechet(made, real, "inception", CLIPS[:5]))
    assert found["fvd"].value == pytest.approx(frechet(made, real, "i3d", CLIPS[:5]))
    assert {one.clips for one in found.values()} == {5}
    assert found == table(made, real, CLIPS[:5])


def test_clips_of_a_method_that_are_not_in_the_subset_do_not_count():
    made, real = all_scores(0), all_scores(100)
    few = {clip: made[clip] for clip in CLIPS[:3]}
    assert table(made, real, CLIPS[:3]) == table(few, real, CLIPS[:3])


def test_a_subset_of_which_nothing_is_there_is_empty():
    assert table(all_scores(0), all_scores(100), ["elsewhere"]) == {}
    assert table({}, all_scores(100)) == {}


def test_the_order_in_which_scores_were_read_changes_nothing():
    made, real = all_scores(0), all_scores(100)
    backwards = [dict(reversed(one.items())) for one in (made, real)]
    assert table(*backwards) == table(made, real)


def test_the_order_of_a_subset_changes_no_figure():
    made, real = all_scores(0), all_scores(100)
    forth, back = table(made, real), table(made, real, CLIPS[::-1])
    for key in forth:
        assert back[key].value == pytest.approx(forth[key].value)


def test_subsets_come_each_by_itself():
    made, real = all_scores(0), all_scores(100)
    subsets = {"few": CLIPS[:3], "rest": CLIPS[3:], "none": []}
    found = dict(estimates(made, real, subsets, DRAWS))
    assert list(found) == ["few", "rest", "none"]
    for name, members in subsets.items():
        assert found[name] == table(made, real, members)


def test_two_halves_of_a_data_set_make_the_whole(tmp_path):
    """Scored apart, in any order, and merged: the table of one run over all."""
    made, real = all_scores(0), all_scores(100)
    for half in (CLIPS[1::2], CLIPS[::2]):
        for clip in half:
            write_scores(str(tmp_path / "made"), clip, made[clip])
            write_scores(str(tmp_path / "real"), clip, real[clip])
    folders = [str(tmp_path / name) for name in ("made", "real")]
    halves = [{**read_all(one, CLIPS[::2]), **read_all(one, CLIPS[1::2])} for one in folders]
    assert table(*halves) == table(*(read_all(one, CLIPS) for one in folders))
    assert table(*halves) == table(made, real)


def test_one_clip_has_means_and_a_distance_of_its_frames_and_no_intervals():
    found = table(all_scores(0), all_scores(100), ["c0"])
    assert not math.isnan(found["hs_err"].value)
    assert not math.isnan(found["fid"].value)
    assert math.isnan(found["fvd"].value)
    assert all(math.isnan(one.low) and math.isnan(one.high) for one in found.values())


def test_the_real_clip_is_at_no_distance_of_itself():
    real = all_scores(100)
    found = table(real, real)
    for key in ("fid", "fvd", "fvd_area"):
        assert found[key].value == pytest.approx(0, abs=1e-9)


def test_a_method_without_hands_has_no_hs_err_and_one_with_few_that_of_those():
    real = all_scores(100)
    nothing = {"hs_err": math.nan, "hs_err_area": math.nan, "recall": 0.0}
    made = {clip: scores(i, **nothing) for i, clip in enumerate(CLIPS)}
    found = table(made, real)
    for key in ("hs_err", "hs_err_area"):
        one = found[key]
        assert np.isnan([one.value, one.low, one.high]).all() and one.clips == 0
    assert found["recall"].value == 0 and found["recall"].clips == 8
    made["c1"], made["c2"] = scores(1, hs_err=0.25), scores(2, hs_err=0.25)
    few = table(made, real)["hs_err"]
    assert (few.value, few.low, few.high, few.clips) == (0.25, 0.25, 0.25, 2)


def test_clips_that_lose_the_hands_come_first_then_the_worst_hs_err_and_those_without_hands_last():
    errors = {"a": 0.1, "b": 0.3, "c": math.nan, "d": 0.2, "e": 0.3, "f": math.nan}
    recalls = {"b": 0.8, "c": math.nan, "e": 0.9, "f": 0.0}
    scored = {
        clip: scores(0, hs_err=error, recall=recalls.get(clip, 0.5))
        for clip, error in errors.items()
    }
    assert ranked(scored, 99) == ["f", "b", "e", "d", "a", "c"]
    assert ranked(scored, 2) == ["f", "b"]
    assert ranked(scored, 0) == []


def test_efficiency_is_the_median_time_and_the_most_memory(tmp_path):
    size = (49, 480, 720)
    costs = [
        Cost(seconds, memory, 7, device, *size)
        for seconds, memory, device in ((1.0, 2.0, "b"), (9.0, 5.0, "a"), (2.0, 3.0, "a"))
    ]
    made = Made(np.zeros((2, 16, 16, 3), np.uint8), None, None)
    for number, cost in enumerate(costs):
        write_made(str(tmp_path), str(number), made, cost, fps=8)
    found = efficiency([str(tmp_path / f"{number}.npz") for number in range(3)])
    assert (found.seconds, found.peak_memory_gb, found.parameters, found.clips) == (2, 5, 7, 3)
    assert found.device == "a; b"
    assert found.frames == "49 at 480x720"
    cost = {"parameters": 7, "seconds": 2, "peak_memory_gb": 5}
    assert found.figures() == cost | {"num_frames": 49, "height": 480, "width": 720}
