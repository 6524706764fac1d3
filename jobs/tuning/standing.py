"""How the trainings of a search stand against each other.

Figures of a validation have scales of their own: the mask IoU of two trainings differs by tenths,
the distance of their joints by hundredths. So each figure is taken as its distance from the mean
over the trainings that are compared, in standard deviations over them, and weighted then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t

from handi_model.metrics.intervals import CONFIDENCE

Figures = Mapping[str, float]
"""Of one validation, by name."""
Outcome = Literal["finished", "cut off", "failed"]


@dataclass(frozen=True)
class Plan:
    """What a trial is to train with: the weights of L_mIoU and L_HR, and the seed."""

    alpha: float
    eta: float
    seed: int


@dataclass(frozen=True)
class Trial:
    """A training that was tried.

    Attributes:
        name: of its folder below `trials/`; empty where it could not be started.
        run_id: of its run in MLflow; None where the store has not answered it.
        history: epochs done -> what was validated then.
        why: it failed, in one line.
    """

    plan: Plan
    name: str
    run_id: str | None
    history: Mapping[int, Figures]
    outcome: Outcome
    why: str = ""

    @property
    def epochs(self) -> int:
        """That it was validated after."""
        return max(self.history, default=0)

    @property
    def figures(self) -> Figures:
        """Of its last validation."""
        return self.history.get(self.epochs, {})


ALIKE = 1e-9
"""Spread of a figure, as a share of it, below which trainings are equal."""


def scores(figures: Mapping[str, Figures], objective: Mapping[str, float]) -> dict[str, float]:
    """Compare trainings by figures that were had after the same number of epochs.

    Args:
        figures: name of a training -> its figures.
        objective: figure -> its weight, below 0 where more of it is better.

    Returns:
        Name -> weighted mean of the figures' distances from their means over the trainings, in
        standard deviations; the lower the better. A figure that none has (no hand was found in any
        clip) has no say, and whoever lacks one that others have is infinitely bad.
    """
    totals, weights = dict.fromkeys(figures, 0.0), 0.0
    for figure, weight in objective.items():
        if not weight:
            continue
        values = np.array([one.get(figure, math.nan) for one in figures.values()], float)
        known = np.isfinite(values)
        if not known.any():
            continue
        weights += abs(weight)
        spread = values[known].std()
        alike = spread <= ALIKE * np.abs(values[known]).max()  # what rounding leaves has no say
        distances = (values - values[known].mean()) / (math.inf if alike else spread)
        for name, distance in zip(figures, distances, strict=True):
            totals[name] += weight * distance if math.isfinite(distance) else math.inf
    return {name: total / weights if weights else math.nan for name, total in totals.items()}


def ranked(trials: Sequence[Trial], objective: Mapping[str, float]) -> list[tuple[Trial, float]]:
    """The trials with their scores: the finished ones first, then by epochs, then by score.

    Each is compared after its own last validation with all that were validated then; NaN for one
    that was never validated.
    """
    found = []
    for trial in trials:
        then = {
            one.name: one.history[trial.epochs] for one in trials if trial.epochs in one.history
        }
        found.append((trial, scores(then, objective).get(trial.name, math.nan)))
    return sorted(
        found,
        key=lambda pair: (
            pair[0].outcome != "finished",
            -pair[0].epochs,
            math.isnan(pair[1]),
            pair[1],
        ),
    )


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation over seeds."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Moments:
        several = len(values) > 1
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if several else math.nan)


@dataclass(frozen=True)
class Repeated:
    """A pair of weights under several seeds.

    Attributes:
        scores: seed -> score among all repeated trainings.
        score: their moments.
        figures: name -> moments.
    """

    alpha: float
    eta: float
    scores: Mapping[int, float]
    score: Moments
    figures: Mapping[str, Moments]


def repeated(trials: Sequence[Trial], objective: Mapping[str, float]) -> list[Repeated]:
    """Gather trainings of the same weights under different seeds, the best weights first.

    Only those that came to their end count.
    """
    finished = [one for one in trials if one.outcome == "finished"]
    own = scores({one.name: one.figures for one in finished}, objective)
    found = []
    for alpha, eta in dict.fromkeys((one.plan.alpha, one.plan.eta) for one in finished):
        same = [one for one in finished if (one.plan.alpha, one.plan.eta) == (alpha, eta)]
        names = [name for name in objective if all(name in one.figures for one in same)]
        found.append(
            Repeated(
                alpha,
                eta,
                {one.plan.seed: own[one.name] for one in same},
                Moments.of([own[one.name] for one in same]),
                {name: Moments.of([one.figures[name] for one in same]) for name in names},
            )
        )
    return sorted(found, key=lambda one: one.score.mean)


@dataclass(frozen=True)
class Difference:
    """How much lower the score of one pair of weights is than another's, over seeds that both had.

    Attributes:
        low, high: ends of its interval of `CONFIDENCE` (Student's t, in pairs of the same seed).
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def beyond_chance(self) -> bool:
        return self.low > 0


def difference(better: Repeated, other: Repeated) -> Difference | None:
    """None where they have fewer than two seeds in common."""
    seeds = sorted(better.scores.keys() & other.scores.keys())
    gains = np.array([other.scores[seed] - better.scores[seed] for seed in seeds])
    if len(seeds) < 2 or not np.isfinite(gains).all():
        return None
    mean, error = float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(len(gains))
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(gains) - 1)) * error
    return Difference(mean, mean - half, mean + half, len(gains))
