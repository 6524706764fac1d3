"""From scored clips to the figures of each method on each subset, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from handi_model.metrics.intervals import Estimate, frechet_interval, mean_interval
from pipelines.evaluation.columns import COLUMNS, Column
from pipelines.evaluation.figures import Scores, read_scores
from pipelines.evaluation.made_files import read_cost

READERS = 16
"""Files read at a time."""

Estimates = dict[str, Estimate]
"""Key of a column -> figure."""


@dataclass(frozen=True)
class Draws:
    """How intervals are drawn: sets of clips for a mean, for a Fréchet distance, and the seed."""

    means: int
    distances: int
    seed: int


def read_all(folder: str, clip_ids: list[str]) -> dict[str, Scores]:
    """The scores of clips, read side by side: clip id -> scores."""
    with ThreadPoolExecutor(READERS) as readers:
        return dict(
            zip(clip_ids, readers.map(lambda one: read_scores(folder, one), clip_ids), strict=True)
        )


def estimates(
    scored: dict[str, Scores],
    real: dict[str, Scores],
    subsets: dict[str, list[str]],
    draws: Draws,
) -> Iterator[tuple[str, Estimates]]:
    """A method's figures on each subset, as each is done.

    Args:
        scored, real: clip id -> scores of the method's clips, and of the real ones; one object for
            the real ones themselves.
        subsets: name -> clip ids; those without scores are left out.
    """
    for name, members in subsets.items():
        there = [one for one in members if one in scored and one in real]
        found = {}
        for column in COLUMNS:
            estimate = _estimate(column, scored, real, there, draws)
            if estimate:
                found[column.key] = estimate
        yield name, found


def _estimate(
    column: Column,
    scored: dict[str, Scores],
    real: dict[str, Scores],
    clips: list[str],
    draws: Draws,
) -> Estimate | None:
    """None where the network was not to be had, or there are no clips."""
    kept = column.features
    if kept:
        if not clips or any(
            kept not in one[clip].features for clip in clips for one in (scored, real)
        ):
            return None
        made, truth = (
            np.stack([one[clip].features[kept] for clip in clips]) for one in (scored, real)
        )
        # Drawn in pairs, a set's distance to itself is the same each time.
        return frechet_interval(made, truth, 0 if scored is real else draws.distances, draws.seed)
    if not clips or any(column.key not in scored[clip].figures for clip in clips):
        return None
    values = np.array([scored[clip].figures[column.key] for clip in clips], np.float64)
    return mean_interval(values, draws.means, draws.seed)


@dataclass(frozen=True)
class Efficiency:
    """What a method's clips took: the paper's Table 1.

    Attributes:
        parameters: of all its networks.
        seconds: median of a clip.
        peak_memory_gb: the most of any process.
        device: and type that they were made by; several where it changed on the way.
        clips: that this was had from.
        num_frames, height, width: of each clip as the networks made it.
    """

    parameters: int
    seconds: float
    peak_memory_gb: float
    device: str
    clips: int
    num_frames: int
    height: int
    width: int

    @property
    def frames(self) -> str:
        """Number, height and width, such as `16 at 256x256`."""
        return f"{self.num_frames} at {self.height}x{self.width}"

    def figures(self) -> dict[str, float]:
        """Name -> figure."""
        return {key: value for key, value in vars(self).items() if key not in ("device", "clips")}


def efficiency(urls: list[str]) -> Efficiency:
    """Read what clips took.

    Args:
        urls: of the clips, at least one.
    """
    with ThreadPoolExecutor(READERS) as readers:
        costs = list(readers.map(read_cost, urls))
    alike = costs[0]  # in all but time, memory and place
    return Efficiency(
        parameters=alike.parameters,
        seconds=float(np.median([cost.seconds for cost in costs])),
        peak_memory_gb=max(cost.peak_memory_gb for cost in costs),
        device="; ".join(sorted({cost.device for cost in costs})),
        clips=len(costs),
        num_frames=alike.num_frames,
        height=alike.height,
        width=alike.width,
    )


def ranked(scored: dict[str, Scores], count: int) -> list[str]:
    """The clips with the worst hands, the worst first.

    Those come first that show none of the real hands, then the ones with the highest HS-Err, and
    of these that with the lower recall; clips without real hands come last.
    """

    def badness(clip_id: str) -> tuple[bool, bool, float, float, str]:
        error, recall = (scored[clip_id].figures[key] for key in ("hs_err", "recall"))
        if math.isnan(recall):
            return True, False, 0.0, 0.0, clip_id
        lost = math.isnan(error)
        return False, not lost, 0.0 if lost else -error, recall, clip_id

    return sorted(scored, key=badness)[:count]
