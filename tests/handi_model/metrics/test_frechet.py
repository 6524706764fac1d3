from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import ortho_group
from torchmetrics.image.fid import FrechetInceptionDistance

from handi_model.metrics.frechet import Gaussian, frechet_distance


def features(count: int, size: int, seed: int) -> np.ndarray:
    """Correlated and off centre, as a network's are."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(size, size)) / np.sqrt(size)
    return generator.normal(size=(count, size)) @ mixing + generator.normal(size=size)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return frechet_distance(Gaussian.of(a), Gaussian.of(b))


def textbook_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Heusel et al. 2017, eq. 6, with the square root of a matrix as it stands there."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(cov_a @ cov_b).real
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root))


class GivenFeatures(torch.nn.Module):
    """Stands for the Inception network: its pictures are features already."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.flatten(1)


def torchmetrics_distance(a: np.ndarray, b: np.ndarray) -> float:
    size = a.shape[1]
    metric = FrechetInceptionDistance(GivenFeatures(size))
    metric.update(torch.from_numpy(a).reshape(-1, size, 1, 1), real=True)
    metric.update(torch.from_numpy(b).reshape(-1, size, 1, 1), real=False)
    return float(metric.compute())


# More features than dimensions, fewer, one more (a covariance of full rank, just so), two.
SHAPES = [(300, 200, 16), (500, 400, 64), (20, 30, 64), (65, 65, 64), (2, 2, 8), (3, 300, 32)]


@pytest.mark.parametrize(("made", "real", "size"), SHAPES)
def test_the_distance_is_that_of_torchmetrics(made, real, size):
    a, b = features(made, size, 1), features(real, size, 2)
    assert distance(a, b) == pytest.approx(torchmetrics_distance(a, b), rel=1e-3)


@pytest.mark.parametrize(("made", "real", "size"), SHAPES)
def test_the_distance_is_that_of_the_formula_as_published(made, real, size):
    a, b = features(made, size, 3), features(real, size, 4)
    assert distance(a, b) == pytest.approx(textbook_distance(a, b), rel=1e-3)


@pytest.mark.parametrize(("made", "real"), [(24, 24), (450, 430)])
def test_fvd_is_the_same_distance_of_400_logits_a_clip(made, real):
    """The trace of the root as the sum of the roots of the product's eigenvalues."""
    a, b = features(made, 400, 5), features(real, 400, 6)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shared = np.sqrt(np.clip(np.linalg.eigvals(cov_a @ cov_b).real, 0, None)).sum()
    between = np.square(a.mean(0) - b.mean(0)).sum()
    expected = between + np.trace(cov_a) + np.trace(cov_b) - 2 * shared
    assert distance(a, b) == pytest.approx(expected, rel=1e-3)


def test_single_precision_features_lose_nothing():
    a, b = (features(40, 16, seed).astype(np.float32) for seed in (7, 8))
    doubles = distance(a.astype(np.float64), b.astype(np.float64))
    assert distance(a, b) == pytest.approx(doubles, rel=1e-10)


@settings(max_examples=40)
@given(st.data(), st.integers(2, 40), st.integers(1, 12), st.integers(0, 99))
def test_gaussians_of_any_parts_in_any_order_add_up_to_that_of_all(data, count, size, seed):
    rows = features(count, size, seed)
    order = data.draw(st.permutations(range(count)))
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=5)))
    parts = [Gaussian.of(rows[part]) for part in np.split(np.array(order), cuts)]
    merged, whole = reduce(add, parts), Gaussian.of(rows)
    assert merged.count == whole.count == count
    np.testing.assert_allclose(merged.mean, rows.mean(0), atol=1e-10)
    scatter = (rows - rows.mean(0)).T @ (rows - rows.mean(0))
    np.testing.assert_allclose(merged.root.T @ merged.root, scatter, atol=1e-9)
    np.testing.assert_allclose(whole.root.T @ whole.root, scatter, atol=1e-9)


@settings(max_examples=20)
@given(st.integers(3, 30), st.integers(1, 29), st.integers(0, 99))
def test_a_distance_from_parts_is_that_from_all(count, cut, seed):
    a, b = features(count, 6, seed), features(20, 6, seed + 1)
    cut = min(cut, count - 1)
    parts = Gaussian.of(a[:cut]) + Gaussian.of(a[cut:])
    assert frechet_distance(parts, Gaussian.of(b)) == pytest.approx(distance(a, b), rel=1e-9)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=8), st.integers(0, 99))
def test_a_weight_is_a_repetition(weights, seed):
    weights[0] = max(weights[0], 1)
    rows = features(8, 5, seed)
    weighted = Gaussian.of(rows, np.array(weights))
    repeated = Gaussian.of(np.repeat(rows, weights, axis=0))
    assert weighted.count == repeated.count
    np.testing.assert_allclose(weighted.mean, repeated.mean, atol=1e-12)
    np.testing.assert_allclose(
        weighted.root.T @ weighted.root, repeated.root.T @ repeated.root, atol=1e-10
    )


def test_the_root_never_has_more_rows_than_dimensions():
    many = Gaussian.of(features(50, 4, 0)) + Gaussian.of(features(50, 4, 1))
    assert many.root.shape == (4, 4)


@pytest.mark.parametrize("count", [5, 60])
def test_the_distance_is_symmetric_and_zero_of_itself(count):
    a, b = features(count, 12, 9), features(count + 3, 12, 10)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9)
    assert distance(a, b) > 0.1
    assert distance(a, a) == pytest.approx(0, abs=1e-9)
    assert distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)


@settings(max_examples=20)
@given(st.integers(2, 8), st.integers(0, 99))
def test_a_rotation_and_a_shift_of_both_change_nothing(size, seed):
    a, b = features(15, size, seed), features(25, size, seed + 1)
    rotation = ortho_group.rvs(size, random_state=seed)
    shift = features(1, size, seed + 2)
    moved = distance(a @ rotation + shift, b @ rotation + shift)
    assert moved == pytest.approx(distance(a, b), rel=1e-8)


@settings(max_examples=20)
@given(st.floats(0.01, 100), st.integers(3, 30), st.integers(0, 99))
def test_a_shift_of_one_is_as_far_as_its_squared_length(length, count, seed):
    a = features(count, 7, seed)
    shift = features(1, 7, seed + 1)
    shift *= length / np.linalg.norm(shift)
    assert distance(a, a + shift) == pytest.approx(length**2, rel=1e-6, abs=1e-9)


def test_a_scale_of_one_is_as_far_as_the_difference_of_the_spreads():
    a = features(200, 6, 11)
    centred = a - a.mean(0)
    spread = np.trace(np.cov(centred, rowvar=False))
    assert distance(centred, 3 * centred) == pytest.approx(4 * spread)


def test_one_feature_has_no_distance():
    one, two = Gaussian.of(features(1, 4, 0)), Gaussian.of(features(2, 4, 1))
    for pair in ((one, two), (two, one), (one, one)):
        with pytest.raises(ValueError, match="at least two"):
            frechet_distance(*pair)


def test_two_that_were_one_each_have_a_distance():
    a = features(2, 4, 0)
    merged = Gaussian.of(a[:1]) + Gaussian.of(a[1:])
    assert frechet_distance(merged, Gaussian.of(a)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("weights", [None, np.zeros(0)])
def test_no_features_are_refused(weights):
    with pytest.raises(ValueError, match="there are none"):
        Gaussian.of(np.zeros((0, 4)), weights)


def test_features_that_all_weigh_nothing_are_refused():
    with pytest.raises(ValueError, match="there are none"):
        Gaussian.of(features(3, 4, 0), np.zeros(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    rows = features(5, 4, 0)
    rows[2, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        Gaussian.of(rows)
