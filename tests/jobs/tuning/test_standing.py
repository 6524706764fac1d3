"""How the trainings of a search stand against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.utils import flatten_dict

from jobs.tuning.halving import Halving
from jobs.tuning.standing import (
    Outcome,
    Plan,
    Repeated,
    Trial,
    difference,
    ranked,
    repeated,
    scores,
)

OBJECTIVE = {"iou": -1.0, "distance": 0.5, "recall": -0.5}
SOME = Plan(0.1, 1.0, 0)

figures = st.fixed_dictionaries({name: st.floats(0.01, 1) for name in OBJECTIVE})


def trial(
    name: str,
    history: Mapping[int, Mapping[str, float]],
    outcome: Outcome = "finished",
    plan: Plan = SOME,
) -> Trial:
    return Trial(plan, name, None, history, outcome, "it broke" if outcome == "failed" else "")


def at(distance: float, iou: float = 0.8, recall: float = 0.5) -> dict[str, float]:
    return {"iou": iou, "distance": distance, "recall": recall}


# Scores


@given(st.dictionaries(st.text(min_size=1), figures, min_size=2), st.floats(0.1, 100))
def test_the_unit_of_a_figure_has_no_say_in_the_order(some, unit):
    scaled = {name: {**one, "distance": one["distance"] * unit} for name, one in some.items()}
    assert scores(scaled, OBJECTIVE) == pytest.approx(scores(some, OBJECTIVE), abs=1e-6)


def test_a_figure_that_moves_by_thousandths_counts_as_one_that_moves_by_tenths():
    """The hand's figure tells two trainings apart that the mask's, five times as strong, mixes."""
    some = {
        "weak eta": at(0.2510, iou=0.6),
        "good eta": at(0.2500, iou=0.5),
        "strong eta": at(0.2515, iou=0.7),
        "middling": at(0.2512, iou=0.6),
    }
    found = scores(some, {"iou": -1.0, "distance": 2.0})
    assert min(found, key=found.__getitem__) == "good eta"
    assert sum(found.values()) == pytest.approx(0, abs=1e-9)


def test_a_score_is_in_standard_deviations_and_lower_where_a_figure_is_better():
    found = scores({"a": {"iou": 0.9}, "b": {"iou": 0.7}, "c": {"iou": 0.8}}, {"iou": -3.0})
    assert found == pytest.approx({"a": -math.sqrt(1.5), "b": math.sqrt(1.5), "c": 0})


def test_a_figure_that_none_has_has_no_say_and_who_alone_lacks_one_is_worst():
    none = {"a": at(math.nan, iou=0.9), "b": at(math.nan, iou=0.8)}
    assert scores(none, OBJECTIVE)["a"] < scores(none, OBJECTIVE)["b"]
    one = {"a": at(math.nan, iou=0.9), "b": at(0.2, iou=0.1), "c": {"iou": 0.2, "distance": 0.3}}
    found = scores(one, OBJECTIVE)
    assert found["a"] == found["c"] == math.inf and math.isfinite(found["b"])


def test_trainings_that_are_alike_score_alike():
    assert scores({"a": at(0.2), "b": at(0.2)}, OBJECTIVE) == {"a": 0, "b": 0}


def test_finished_trainings_come_first_and_each_is_compared_with_those_that_got_as_far():
    trials = [
        trial("good, cut off", {1: at(0.1)}, "cut off"),
        trial("bad", {1: at(0.3), 2: at(0.30)}),
        trial("best", {1: at(0.4), 2: at(0.25)}),
        trial("failed late", {1: at(0.2), 2: at(0.1)}, "failed"),
        trial("failed at once", {}, "failed"),
    ]
    found = ranked(trials, {"distance": 1.0})
    names = [one.name for one, _ in found]
    assert names == ["best", "bad", "failed late", "good, cut off", "failed at once"]
    own = dict(zip(names, [score for _, score in found], strict=True))
    assert own["good, cut off"] < 0 < own["bad"], "after one epoch, and after two"
    assert math.isnan(own["failed at once"])


# Halving


def test_at_each_rung_a_training_that_is_worse_than_the_median_is_cut_off():
    halving = Halving(1, 5, {"distance": 1.0})
    assert halving.goes_on("first", 1, at(0.3)), "there is nothing to compare it with"
    assert not halving.goes_on("worse", 1, at(0.4))
    assert halving.goes_on("better", 1, at(0.2))
    assert halving.goes_on("second best", 1, at(0.25))
    # Rungs lie at epochs 1, 2 and 4; a trial that comes later than its rung is judged then.
    assert halving.goes_on("first", 3, at(0.3))
    assert halving.goes_on("first", 3, at(0.9)), "judged at this rung already"
    assert not halving.goes_on("better", 2, at(0.31))
    assert halving.goes_on("second best", 2, at(0.1))
    assert halving.goes_on("second best", 4, at(0.9)), "the first there"


def test_halving_reads_the_last_validation_of_what_a_trial_reports():
    halving = Halving(1, 4, {"validation/mask_iou": -1.0})

    def says(name: str, first: float, second: float) -> str:
        result = flatten_dict(
            {
                "epoch": 2,
                "history": {
                    str(i + 1): {"validation/mask_iou": v} for i, v in enumerate((first, second))
                },
            }
        )
        return halving.on_trial_result(None, SimpleNamespace(trial_id=name), result)

    assert says("first", 0.9, 0.5) == Halving.CONTINUE
    assert says("worse now", 0.95, 0.4) == Halving.STOP
    assert halving.on_trial_result(None, None, {"ended": True}) == Halving.CONTINUE


def test_before_its_first_rung_no_training_is_cut_off():
    halving = Halving(4, 8, {"distance": 1.0})
    assert halving.goes_on("good", 2, at(0.1)) and halving.goes_on("bad", 2, at(0.9))


def test_halving_sees_the_hand_figure_beside_a_mask_figure_that_moves_more():
    halving = Halving(1, 2, {"iou": -1.0, "distance": 2.0})
    for i, iou in enumerate((0.5, 0.6, 0.7)):
        halving.goes_on(f"{i}", 1, at(0.250 + i / 1e4, iou=iou))
    assert not halving.goes_on("far hands", 1, at(0.252, iou=0.65))
    assert halving.goes_on("near hands", 1, at(0.249, iou=0.55))


# Seeds


def under_seeds(distances: Mapping[float, list[float]]) -> list[Trial]:
    return [
        trial(f"{eta}-{seed}", {3: at(distance)}, plan=Plan(0.1, eta, seed))
        for eta, values in distances.items()
        for seed, distance in enumerate(values)
    ]


def test_weights_are_told_with_mean_and_deviation_over_their_seeds():
    trials = under_seeds({1.0: [0.2, 0.3, 0.4], 2.0: [0.1, 0.2, 0.3]})
    best, other = repeated(trials, {"distance": 1.0})
    assert (best.eta, other.eta) == (2.0, 1.0)
    assert best.figures["distance"].mean == pytest.approx(0.2)
    assert best.figures["distance"].deviation == pytest.approx(0.1)
    assert best.score.mean == pytest.approx(np.mean(list(best.scores.values())))
    assert list(best.scores) == [0, 1, 2]


def test_a_training_that_failed_has_no_say_in_the_spread():
    trials = under_seeds({1.0: [0.2, 0.3]})
    lost = trial("lost", {3: at(9.0)}, "failed", Plan(0.1, 1.0, 7))
    (one,) = repeated([*trials, lost], {"distance": 1.0})
    assert list(one.scores) == [0, 1]


def weights(*own: float) -> Repeated:
    (one,) = repeated(under_seeds({1.0: list(own)}), {"distance": 1.0})
    return Repeated(1, 1, dict(enumerate(own)), one.score, one.figures)


def test_a_steady_difference_is_beyond_chance_and_one_that_seeds_reverse_is_not():
    steady = difference(weights(0.1, 0.5, 0.9), weights(0.31, 0.70, 1.09))
    assert steady and steady.beyond_chance and steady.seeds == 3
    assert steady.mean == pytest.approx(0.2)
    # Student's t of two degrees of freedom is 4.303 at 97.5 %.
    half = 4.303 * 0.01 / math.sqrt(3)
    assert (steady.low, steady.high) == pytest.approx((0.2 - half, 0.2 + half), rel=1e-3)
    shaky = difference(weights(0.1, 0.5, 0.9), weights(0.6, 0.2, 1.3))
    assert shaky and not shaky.beyond_chance and shaky.mean > 0


def test_one_seed_tells_no_difference():
    assert difference(weights(0.1, 0.2), Repeated(1, 1, {0: 0.3}, *[weights(1).score, {}])) is None
