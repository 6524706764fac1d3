"""The Fréchet distance of two sets of features, from statistics that add up (FID and FVD).

Heusel et al. 2017 ("GANs Trained by a Two Time-Scale Update Rule"), eq. 6, and Unterthiner et al.
2018 ("Towards Accurate Generative Models of Video").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK = 8192
"""Features that are taken in at a time: bounds memory."""


@dataclass(frozen=True)
class Gaussian:
    """Count, mean and spread of features; the sum of two is that of all their features.

    The spread is kept as a root of the scatter matrix rather than as the matrix: it is small where
    features are few, and the distance needs no square root of a product of matrices, which is what
    loses digits in the usual formula.

    Attributes:
        count: of features; a feature of weight 2 counts twice.
        mean: (D,) float64.
        root: (R, D) float64, R <= D: root^T root is the sum of the outer products of all
            deviations from the mean.
    """

    count: float
    mean: NDArray[np.float64]
    root: NDArray[np.float64]

    @classmethod
    def of(
        cls, features: NDArray[np.floating], weights: NDArray[np.number] | None = None
    ) -> Gaussian:
        """Of (N, D) features, each with a weight >= 0, by default 1.

        Raises:
            ValueError: if there are none, or one is not finite.
        """
        if not np.isfinite(features).all():
            raise ValueError("features: some are not finite; the clip or the network is damaged")
        each = np.ones(len(features)) if weights is None else np.asarray(weights, np.float64)
        count = float(each.sum())
        if not count:
            raise ValueError("features: there are none")
        kept = np.flatnonzero(each)
        parts = [kept[start : start + CHUNK] for start in range(0, len(kept), CHUNK)]
        sums = [each[part] @ features[part].astype(np.float64) for part in parts]
        mean = np.sum(sums, axis=0) / count
        root = np.empty((0, features.shape[1]))
        for part in parts:
            deviations = np.sqrt(each[part])[:, None] * (features[part] - mean)
            root = _compact(np.concatenate([root, deviations]))
        return cls(count, mean, root)

    def __add__(self, other: Gaussian) -> Gaussian:
        count = self.count + other.count
        mean = (self.count * self.mean + other.count * other.mean) / count
        # The two means' distance is one deviation more (Chan, Golub and LeVeque 1979).
        between = np.sqrt(self.count * other.count / count) * (self.mean - other.mean)
        return Gaussian(
            count, mean, _compact(np.concatenate([self.root, other.root, between[None]]))
        )


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), with C the unbiased covariances.

    The last trace is the sum of the singular values of root_a root_b^T.

    Raises:
        ValueError: if one of them has a single feature: it has no covariance.
    """
    if min(a.count, b.count) < 2:
        raise ValueError("features: a Fréchet distance needs at least two of each")
    between = np.square(a.mean - b.mean).sum()
    spread_a, spread_b = (np.square(one.root).sum() / (one.count - 1) for one in (a, b))
    shared = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    shared /= np.sqrt((a.count - 1) * (b.count - 1))
    return max(float(between + spread_a + spread_b - 2 * shared), 0.0)


def _compact(root: NDArray[np.float64]) -> NDArray[np.float64]:
    """As many rows as columns at most, and the same product with itself."""
    rows, columns = root.shape
    return np.asarray(np.linalg.qr(root, mode="r")) if rows > columns else root
