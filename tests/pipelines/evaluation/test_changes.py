import math

import numpy as np
import pytest

from handi_model.metrics.frechet import Gaussian, frechet_distance
from pipelines.evaluation.changes import CHANGED, for_changes, relative_changes, whole_method
from pipelines.evaluation.figures import Scores
from pipelines.evaluation.plan import Planned
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.evaluation.table import Draws
from pipelines.evaluation.views import SeenHands

CLIPS = [f"c{i}" for i in range(6)]
DRAWS = Draws(means=20, distances=3, seed=0)
HANDS = SeenHands(np.zeros((2, 42, 2), np.float32), np.ones((2, 2), bool))


def scores(seed: int, shift: float, hs_err: float) -> Scores:
    features = np.random.default_rng(seed).normal(shift, 1, (1, 2)).astype(np.float32)
    return Scores(
        {"hs_err": hs_err, "change_outside": 0.1 * (1 + shift)},
        {"i3d": features, "i3d_area": features, "inception": features},
        HANDS,
        "",
    )


def method(first: int, shift: float, hs_err: float = 0.1) -> dict[str, Scores]:
    return {clip: scores(first + i, shift, hs_err) for i, clip in enumerate(CLIPS)}


def distance(made: dict[str, Scores], real: dict[str, Scores]) -> float:
    rows = [np.concatenate([side[clip].features["i3d"] for clip in CLIPS]) for side in (made, real)]
    return frechet_distance(*map(Gaussian.of, rows))


def test_each_figure_is_held_against_that_of_the_run_without():
    whole, without, real = method(0, 1, 0.06), method(50, 3, 0.08), method(99, 0)
    found = relative_changes(for_changes(whole), without, real, CLIPS, DRAWS)
    assert tuple(found) == CHANGED
    assert found["hs_err"].value == pytest.approx(-0.25)
    assert found["change_outside"].value == pytest.approx(-0.5)
    expected = distance(whole, real) / distance(without, real) - 1
    assert found["fvd"].value == pytest.approx(expected)
    assert all(one.low <= one.value <= one.high and one.clips == 6 for one in found.values())


def test_clips_that_one_of_both_lacks_and_hands_that_one_of_both_does_not_show_are_left_out():
    whole, without, real = method(0, 1), method(50, 3, 0.2), method(99, 0)
    del without["c0"]
    whole["c1"] = scores(1, 1, math.nan)
    found = relative_changes(whole, without, real, CLIPS, DRAWS)
    assert (found["hs_err"].clips, found["change_outside"].clips) == (4, 5)
    assert found["hs_err"].value == pytest.approx(-0.5)
    assert relative_changes(whole, {}, real, CLIPS, DRAWS) == {}


def test_without_a_network_its_rows_are_missing():
    blind = {clip: Scores(one.figures, {}, HANDS, "") for clip, one in method(0, 1).items()}
    found = relative_changes(blind, method(50, 3), method(99, 0), CLIPS, DRAWS)
    assert set(found) == {"hs_err", "change_outside"}


def test_the_method_is_the_first_that_predicts_its_own_area_and_is_whole():
    def planned(**keys) -> list[Planned]:
        rows = EvaluateSettings(data="d", output="o", **keys).rows()
        return [Planned(one, one.slug, "", {}) for one in rows]

    ours = whole_method(planned(model="m"))
    assert ours and ours.method.name == "ours"
    rows = [
        {"name": "no hand loss", "kind": "handi", "model": "a", "without": "hand loss"},
        {"name": "true masks", "kind": "handi", "model": "b", "area": "true"},
        {"name": "whole", "kind": "handi", "model": "b"},
    ]
    found = whole_method(planned(methods=rows))
    assert found and found.method.name == "whole"
    assert whole_method(planned(methods=rows[1:])) is None
    assert whole_method(planned(clips="c")) is None
