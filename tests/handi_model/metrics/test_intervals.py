import math

import numpy as np
import pytest

from handi_model.metrics.frechet import Gaussian, frechet_distance
from handi_model.metrics.intervals import (
    CONFIDENCE,
    frechet_interval,
    mean_interval,
    relative_frechet,
    relative_mean,
)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    rows = [one.reshape(-1, one.shape[-1]) for one in (a, b)]
    return frechet_distance(*map(Gaussian.of, rows))


def clips(count: int, each: int, size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, each, size))


def test_95_of_100_intervals_of_a_mean_hold_the_true_one():
    generator = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        found = mean_interval(generator.normal(3, 2, 60), samples=200, seed=trial)
        held += found.low <= 3 <= found.high
    assert held / 200 == pytest.approx(CONFIDENCE, abs=0.06)


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = np.random.default_rng(1).normal(0, 5, 400)
    found = mean_interval(values, samples=2000, seed=0)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert found.low < found.value < found.high


def test_the_frechet_interval_is_as_wide_as_the_distance_varies_over_other_clips():
    values, widths = [], []
    for trial in range(250):
        made = clips(60, 1, 3, 2 * trial) * 1.5 + 1
        found = frechet_interval(made, clips(60, 1, 3, 2 * trial + 1), samples=10, seed=trial)
        values.append(found.value)
        widths.append(found.high - found.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.12)


def test_most_frechet_intervals_hold_the_distance_of_all_there_is():
    """Of two normal distributions: |shift|^2 + D (s - 1)^2."""
    truth, held = 3 * 1.0 + 3 * 0.25, 0
    for trial in range(40):
        made = clips(150, 1, 3, 2 * trial) * 1.5 + 1
        found = frechet_interval(made, clips(150, 1, 3, 2 * trial + 1), samples=30, seed=trial)
        held += found.low <= truth <= found.high
    assert 0.85 <= held / 40 <= 1


def test_clips_without_the_figure_are_left_out():
    known = np.random.default_rng(2).normal(size=20)
    holes = np.insert(known, [0, 7, 20], [np.nan, np.inf, -np.inf])
    assert mean_interval(holes, 100, 0) == mean_interval(known, 100, 0)
    assert mean_interval(holes, 100, 0).clips == 20


def test_one_clip_has_a_figure_and_no_interval():
    found = mean_interval(np.array([np.nan, 4.0]), 100, 0)
    assert (found.value, found.clips) == (4, 1)
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_no_clip_has_no_figure(values):
    found = mean_interval(np.array(values), 100, 0)
    assert found.clips == 0
    assert np.isnan([found.value, found.low, found.high]).all()


@pytest.mark.filterwarnings("error")
def test_clips_that_agree_have_an_interval_of_no_width():
    found = mean_interval(np.full(5, 0.3), 100, 0)
    assert [found.value, found.low, found.high] == pytest.approx([0.3] * 3)


def test_the_frechet_interval_lies_around_the_distance_of_all_clips():
    made, real = clips(20, 4, 5, 0) + 0.3, clips(20, 4, 5, 1)
    found = frechet_interval(made, real, samples=10, seed=0)
    assert found.value == pytest.approx(distance(made, real))
    assert found.low < found.value < found.high
    assert found.clips == 20


def test_the_frechet_interval_ends_at_zero():
    same = clips(10, 2, 4, 0)
    found = frechet_interval(same, same, samples=5, seed=0)
    assert found.low >= 0
    assert [found.low, found.value, found.high] == pytest.approx([0] * 3, abs=1e-9)
    near = frechet_interval(clips(4, 1, 1, 0), clips(4, 1, 1, 1), samples=20, seed=0)
    assert 0 <= near.low <= near.value <= near.high


def test_without_draws_the_interval_has_no_width():
    features = np.random.default_rng(0).normal(size=(4, 3, 2))
    found = frechet_interval(features, features, 0, 0)
    assert found.low == found.value == found.high == pytest.approx(0, abs=1e-9)


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    made, real = clips(12, 2, 4, 0), clips(12, 2, 4, 1)
    means = [mean_interval(made[:, 0, 0], 50, seed) for seed in (7, 7, 8)]
    distances = [frechet_interval(made, real, 10, seed) for seed in (7, 7, 8)]
    for first, again, other in (means, distances):
        assert first == again
        assert first.value == other.value
        assert (first.low, first.high) != (other.low, other.high)


def test_real_and_generated_clips_are_drawn_in_pairs():
    """Each clip is the real one, moved: whatever is drawn, the distance is that of the move."""
    real = clips(15, 3, 4, 0)
    paired = frechet_interval(real + 0.5, real, samples=20, seed=0)
    assert [paired.low, paired.value, paired.high] == pytest.approx([1.0] * 3)
    others = frechet_interval(np.roll(real, 1, axis=0) + 0.5, real, samples=20, seed=0)
    assert others.value == pytest.approx(1.0)
    assert others.high - others.low > 0.1


def test_clips_are_drawn_and_not_their_frames():
    """Frames that are all alike tell no more than one of them."""
    made, real = clips(40, 1, 3, 0) + 1, clips(40, 1, 3, 1)
    one = frechet_interval(made, real, samples=40, seed=0)
    alike = frechet_interval(np.repeat(made, 8, 1), np.repeat(real, 8, 1), samples=40, seed=0)
    assert alike.high - alike.low == pytest.approx(one.high - one.low, rel=0.05)


def test_one_clip_of_many_frames_has_a_distance_and_no_interval():
    made, real = clips(1, 8, 3, 0), clips(1, 8, 3, 1)
    found = frechet_interval(made, real, samples=5, seed=0)
    assert found.value == pytest.approx(distance(made, real))
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize("count", [0, 1])
def test_clips_too_few_for_a_distance_have_none(count):
    found = frechet_interval(clips(count, 1, 3, 0), clips(count, 1, 3, 1), samples=5, seed=0)
    assert found.clips == count
    assert np.isnan([found.value, found.low, found.high]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_features_that_are_not_finite_are_refused(bad, which):
    pair = [clips(5, 2, 3, 0), clips(5, 2, 3, 1)]
    pair[which][2, 1, 0] = bad
    with pytest.raises(ValueError, match="not finite"):
        frechet_interval(*pair, samples=5, seed=0)


def test_a_relative_change_is_of_the_clips_that_have_both_figures():
    base = np.array([1.0, 2.0, np.nan, 4.0, 9.0])
    made = np.array([0.5, 1.0, 7.0, 2.0, np.nan])
    found = relative_mean(made, base, samples=50, seed=0)
    assert (found.value, found.low, found.high) == pytest.approx((-0.5, -0.5, -0.5))
    assert found.clips == 3
    assert math.isnan(relative_mean(made, 0 * base, samples=5, seed=0).value)
    assert math.isnan(relative_mean(made[:1], base[:1], samples=5, seed=0).low)


def test_most_intervals_of_a_relative_change_hold_the_true_one():
    generator, held = np.random.default_rng(0), 0
    for trial in range(150):
        base = generator.gamma(4, 1, 80)
        made = 0.8 * base + generator.normal(0, 0.5, 80)
        found = relative_mean(made, base, samples=200, seed=trial)
        held += found.low <= -0.2 <= found.high
    assert held / 150 == pytest.approx(CONFIDENCE, abs=0.06)


def test_a_relative_change_of_a_distance_is_that_of_both_and_as_wide_as_it_varies():
    values, widths = [], []
    for trial in range(120):
        real, base, made = (clips(60, 1, 3, 3 * trial + part) for part in range(3))
        base, made = base + 2, made + 1
        found = relative_frechet(made, base, real, samples=10, seed=trial)
        assert found.value == pytest.approx(distance(made, real) / distance(base, real) - 1)
        values.append(found.value)
        widths.append(found.high - found.low)
    assert np.mean(values) == pytest.approx(-0.75, abs=0.05)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.2)


def test_a_distance_from_a_run_that_is_at_none_has_no_relative_change():
    real = clips(6, 1, 3, 0)
    assert math.isnan(
        relative_frechet(real + 1, real[:1].repeat(6, 0), real[:1].repeat(6, 0), 3, 0).value
    )
